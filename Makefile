# Everything runs in ./.venv, made once with pip. PYTHON chooses the interpreter it is made with.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo space test compatibility lint format sync mini bench

# Labels the example faces, then opens the page, until Ctrl-C.
demo: .venv/installed
	$(BIN)/expclip classify space/examples
	$(BIN)/python -m space.app

# A folder that runs by itself and can be pushed to a Hugging Face Space.
space: .venv/installed
	$(BIN)/python -m space.build --output dist/space

# Two processes of one thread each: most tests are too small for more.
test: .venv/installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

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

# Trains the embedded default again; FER2013 is the training split as Parquet. The variables keep glibc from handing every
# large tensor back to the system, which costs a third of the time.
FER2013 ?= ../shared/data/fer2013/train.parquet
mini: .venv/installed
	MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=67108864 \
	$(BIN)/python -m training.mini --data $(FER2013) --work work/mini --output work/expclip-mini

bench: .venv/installed
	$(BIN)/python -m tests.benchmarks.cached_epoch
	$(BIN)/python -m tests.benchmarks.images
	$(BIN)/python -m tests.benchmarks.folders
	$(BIN)/python -m tests.benchmarks.start_and_memory
