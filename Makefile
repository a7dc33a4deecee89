# The commands of this repository: `make help` lists them.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BOOK := _build/html
PORT ?= 8000
SEED ?= 0
SEEDS ?= 3
FOLDER ?= book

# Steps of RNN mode are many small tensor operations, which a second thread only slows down.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install book html serve lab publish-to hub-links zip slides student assignments format check test claims test-colab test-other-model train memories traces bench booktimes clean

help:  ## list these commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1 \2/p' Makefile | while read -r name what; do printf '  make %-17s %s\n' "$$name" "$$what"; done

install: $(VENV)/.installed  ## make .venv with all that the book needs, pinned (TORCH_INDEX=... chooses PyTorch's build)

$(VENV)/.installed: requirements.txt pyproject.toml book/_playground/package-lock.json
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, $(PYTHON) is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
ifdef TORCH_INDEX
	$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) "$$(grep '^torch==' requirements.txt)"
endif
	$(BIN)/python -m pip install --quiet --no-compile --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@mkdir -p $(VENV)/playground && cp book/_playground/package*.json $(VENV)/playground
	@PATH="$(abspath $(BIN)):$$PATH" npm ci --prefix $(VENV)/playground --ignore-scripts --no-audit --no-fund --loglevel=error \
		|| { rm -rf $(VENV)/playground; echo "npm could not be reached, so the playground will show its examples alone." \
			"To get all of it later: touch requirements.txt && make book" >&2; }
	@touch $@

book: install html  ## run the chapters that changed and build the book
	@echo "The book is ready. Open file://$(subst $() ,%20,$(CURDIR))/$(BOOK)/index.html, or run: make serve"

# Sphinx says each warning once: after a failure, every page is read again, or the next build would pass in silence.
html:
	@rm -rf $(BOOK)/reports
	@$(BIN)/jupyter-book build book --config _config.yml --toc "$(CURDIR)/_toc.yml" --path-output . -W -n --keep-going \
		|| { rm -rf _build/.doctrees; echo "The book did not build: see the warnings and errors above." >&2; exit 1; }

serve: book  ## show the book at http://localhost:8000 (PORT=... chooses another port)
	$(BIN)/python -m http.server $(PORT) --bind localhost --directory $(BOOK)

lab: install  ## open the chapters in JupyterLab, to run and change them (FOLDER=... opens another folder)
	$(BIN)/jupyter lab --notebook-dir "$(FOLDER)"

zip: book  ## pack the built book into one file that opens without a server: _build/rwkv-explained.zip
	@$(BIN)/python tools/pack.py $(BOOK) _build/rwkv-explained.zip

slides: book  ## slides of each chapter, with its live figures and notes for the speaker, in _build/slides (CHAPTERS as for student)
	@$(BIN)/python tools/slides.py $(BOOK) _build/slides $(CHAPTERS)

student: install  ## chapters without solutions, in _build/student (SEED=7: other numbers; CHAPTERS=time-decay: this one)
	$(BIN)/python tools/editions.py student _build/student $(CHAPTERS) --seed $(SEED)

assignments: install  ## an nbgrader course of the exercises, and an examination, in _build/course (SEED and CHAPTERS as for student)
	$(BIN)/python tools/editions.py assignments _build/course $(CHAPTERS) --seed $(SEED)

publish-to:  ## write the address of the published book, REPOSITORY=https://... (`nowhere` takes it back)
	@$(PYTHON) tools/publish.py "$(REPOSITORY)"

hub-links:  ## links that open the published chapters on a JupyterHub with nbgitpuller (HUB=https://...)
	@$(PYTHON) tools/publish.py links "$(HUB)"

PRETTIER := $(BIN)/node $(VENV)/playground/node_modules/prettier/bin/prettier.cjs
SCRIPTS := book/_static/*.css book/_static/*.js book/_playground/*.css book/_playground/*.*js tools/*.css tools/*.js

format: install  ## lay out all Python, JavaScript and CSS
	@$(BIN)/ruff check --quiet --select I --fix . && $(BIN)/ruff format --quiet .
	@$(PRETTIER) --log-level warn --write $(SCRIPTS)

# Two processes, each with whole files, which share what is costly to make; in the order of tests/conftest.py.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

check: install  ## what every commit should pass: layout, lint, and the tests of the package, without the book
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@$(PRETTIER) --log-level warn --check $(SCRIPTS)
	@$(BIN)/python -m pytest $(PARALLEL) -m "not built and not colab and not other_model"

test: book  ## build the book, then check it and the package
	@$(BIN)/python tests/browser.py
	$(BIN)/python -m pytest $(PARALLEL)

claims: install  ## try on altered models whether each claim can fail (CHAPTERS=time-decay: this one; OTHER=run: one more model)
	$(BIN)/python tools/claims.py $(CHAPTERS) $(if $(OTHER),--other "$(OTHER)")

test-colab: install  ## run every chapter, and the wheel, in a new environment with the newest packages, as Colab does
	$(BIN)/python -m pytest -v -m "colab or not colab" -k empty_folder tests/test_colab_lab_zip.py tests/test_package.py

test-other-model: install  ## build the whole book on a random model of another size and vocabulary (ten minutes)
	$(BIN)/python -m pytest -v -m other_model tests/test_other_model.py

train: install  ## train a small model: on a text with CORPUS=text.txt, else on the atlas alone, in a few minutes
ifdef CORPUS
	$(BIN)/python -m rwkv_explainer.lab.training --corpus "$(CORPUS)" --workers 2
else
	$(BIN)/python -m rwkv_explainer.lab.training --out runs/atlas
endif

memories: install  ## train RWKV-4 to 7 and a Transformer on recall and state tracking, for the last chapter (SEEDS=3)
	$(BIN)/python -m rwkv_explainer.lab.compare_memories --seeds $(SEEDS)

traces: install  ## trace facts drawn at random in the bundled model, against every baseline, for the chapter on causal traces
	$(BIN)/python -m rwkv_explainer.lab.traced_facts --write

bench: install  ## measure the package beside `rwkv` and transformers, and write the book's page on it (a quarter of an hour)
	env -u OMP_NUM_THREADS $(BIN)/python benchmarks/compare_implementations.py
	$(BIN)/python benchmarks/report.py

booktimes: install  ## measure how long the book takes from a clean checkout, for the same page (FOLDER_OF_RUN=... goes on)
	$(BIN)/python benchmarks/book.py $(if $(FOLDER_OF_RUN),--folder $(FOLDER_OF_RUN)) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))
	$(BIN)/python benchmarks/report.py

clean:  ## remove the built book and all executed chapters; .venv, runs and a course (it may hold grades) stay
	@[ ! -d _build ] || find _build -mindepth 1 -maxdepth 1 ! -name course -exec rm -rf {} +
