# `make book` and `make test` do everything, set-up included. They need Python 3.11 or newer.
# Without make, type what stands behind it: python3 tools/make.py book (README.md).

PYTHON ?= python3

.PHONY: book html test lab chapters kernels benchmarks tasks mutants pins clean

book:        ## execute every chapter afresh and build the pages, warnings as errors
html:        ## build the pages from the outputs stored in the chapters
test:        ## the library, then every chapter re-run and compared, then the pages in a browser
lab:         ## open the chapters in JupyterLab
chapters:    ## authors: execute the chapters in place and store their outputs (ONLY=bulk for one)
kernels:     ## tests and chapters that sample, on other processors' arithmetic and with two threads
benchmarks:  ## speed, as ratios within one run
tasks:       ## simple and large tasks once more, reduced: from the data to the number that decides, minutes
mutants:     ## break formulas of the library and of chapters, one at a time: what turns red; an hour
pins:        ## compile requirements.in into requirements.txt
clean:       ## remove what was set up and built

book html test lab chapters kernels benchmarks tasks mutants pins clean:
	@$(PYTHON) tools/make.py $@ $(if $(filter chapters kernels,$@),$(ONLY))
