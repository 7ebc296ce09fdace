"""What keeps the documents true: their commands (`make docs-check`) and their figures (`make figures`)."""
