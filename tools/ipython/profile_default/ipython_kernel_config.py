"""How the book's own kernel draws: twice the pixels, at the same size on the page."""

c = get_config()  # noqa: F821  (given by IPython)
c.InlineBackend.figure_formats = {"retina"}
