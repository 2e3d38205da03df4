"""Settings of every kernel that runs a chapter, instead of those of the reader's IPython profile."""

c = get_config()  # noqa: F821

c.HistoryManager.hist_file = ":memory:"  # chapters run side by side
c.InlineBackend.figure_formats = {"retina"}  # twice the pixels, at the same size on the page
