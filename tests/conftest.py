"""What the tests print at the end: how many chapter cells are exempt from comparison."""


def pytest_terminal_summary(terminalreporter):
    import test_chapters as chapters

    cells = [cell for path in chapters.NOTEBOOKS for cell in chapters.code_cells(path)]
    exempt = sum(chapters.is_exempt(cell) for cell in cells)
    terminalreporter.write_line(f"{exempt} of {len(cells)} chapter cells are exempt from comparison")
