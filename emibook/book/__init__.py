"""The book: chapters run by papermill, pages and exercises, the site."""
