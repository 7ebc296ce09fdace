"""The page: the signal live, and recordings to look through and to correct. Extra ``[review]``: starlette and uvicorn."""
