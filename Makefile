# `make demo` and `make test` need nothing but Python 3.11 or newer and pip.
#   make demo PROMPT="a small blue star moving up" SEED=3
#   make test COMFYUI_PATH=... COMFYUI_PYTHON=...     (adds the tests inside a real ComfyUI)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    ?= $(BIN)/python -m pip --disable-pip-version-check
PROMPT ?= a large red circle moving right
SEED   ?= 0
OUTPUT ?= output
TORCH  := $(shell grep '^torch==' constraints.txt)

export PROMPT
export TOKENIZERS_PARALLELISM := false

RUNTIME := $(VENV)/.runtime
DEVELOP := $(VENV)/.develop

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick lint format pictures thumbnails layouts bench tables train-tiny train-tiny-card \
	card-latents clean distclean

help:
	@echo "make demo        set up and write $(OUTPUT)/demo.mp4 and its contact sheet (PROMPT=\"...\" SEED=0)"
	@echo "make test        set up and run lint, types and every test that can run here"
	@echo "make quick       the same without the slow tests"
	@echo "make lint        ruff and mypy"
	@echo "make format      let ruff rewrite the sources"
	@echo "make layouts     place the nodes of the shipped workflows anew (needs what tests/browser needs)"
	@echo "make pictures    draw every node for its help page (needs what tests/browser needs)"
	@echo "make thumbnails  run the bundled model's workflows and draw their pictures (needs what tests/host needs)"
	@echo "make bench       side-by-side benchmarks"
	@echo "make tables      the paper's tables in small, trained and measured, into RESULTS.md"
	@echo "make train-tiny  train the bundled model again, all stages"
	@echo "make train-tiny-card  the bundled model's image and keyframe stages go on, on a GPU"
	@echo "make clean       remove caches and $(OUTPUT)/;  make distclean removes $(VENV) too"

# torch first and alone, so that no later requirement chooses another build of it.
$(RUNTIME): requirements.txt constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(TORCH)
	$(PIP) install --quiet -c constraints.txt -r requirements.txt
	@$(BIN)/python -c 'import cv2' || { echo "opencv-python needs libGL and GLib (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0)"; exit 1; }
	@touch $@

$(DEVELOP): $(RUNTIME) pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e ".[training,test,dev]"
	@touch $@

setup: $(DEVELOP)

demo: $(RUNTIME)
	@mkdir -p "$(OUTPUT)"
	@start=$$(date +%s); \
	$(BIN)/python -m fusionframes_core generate --model tiny --prompt "$$PROMPT" --seed $(SEED) \
		--keyframes 16 --passes 1 --scale 4 --out "$(OUTPUT)/demo.mp4" --contact-sheet "$(OUTPUT)/demo.png" && \
	echo "$(OUTPUT)/demo.mp4 and $(OUTPUT)/demo.png: \"$$PROMPT\", made in $$(( $$(date +%s) - start )) s"

# ComfyUI loads the pack's folder under a name of its own, which mypy needs too: a link gives it one.
lint: $(DEVELOP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@mkdir -p .mypy_cache/types && ln -sfn ../.. .mypy_cache/types/fusionframes_pack
	MYPYPATH=.mypy_cache/types:tests/stubs $(BIN)/mypy -p fusionframes_pack.nodes

# One process a core, of one thread each.
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)

quick: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -rs -n $(JOBS)

# The long part may be empty: pytest's exit code 5 (nothing collected) is no failure there.
test: quick
	$(BIN)/python -m pytest -m slow -rs || [ $$? -eq 5 ]

format: $(DEVELOP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

layouts: $(DEVELOP)
	FUSIONFRAMES_LAYOUTS=1 $(BIN)/python -m pytest tests/browser/test_layouts.py -rs

pictures: $(DEVELOP)
	FUSIONFRAMES_PICTURES=$(CURDIR)/web/docs $(BIN)/python -m pytest tests/browser/test_pictures.py -rs

thumbnails: $(DEVELOP)
	FUSIONFRAMES_THUMBNAILS=1 FUSIONFRAMES_REQUIRE=host $(BIN)/python -m pytest tests/host/test_thumbnails.py -rs

bench: $(DEVELOP)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.masked
	$(BIN)/python -m benchmarks.training_step

# Budgets are options (`python -m training.tables --help`): TABLES="--only skip guidance --seeds 0". A stopped run goes on.
TABLES ?=

tables: $(DEVELOP)
	$(BIN)/python -m training.tables $(TABLES)

# The stages that made the bundled model, in their order; a finished stage is not run again, a stopped one goes on.
PROCESSES ?= 2
PREPARE   := OMP_NUM_THREADS=1 $(BIN)/python -m training.latents --movq runs/autoencoder/movq.safetensors
TRAIN     := OMP_NUM_THREADS=1 $(BIN)/python -m torch.distributed.run --nproc_per_node $(PROCESSES) -m
CONFIGS   := training/configs
CLIPS     := keyframes_0 keyframes_1 keyframes_2 keyframes_3 keyframes_4 turning_0 turning_1 turning_2
CLIPS     += spinning_0 spinning_1 spinning_2 spinning_3 tilted_0 tilted_1 tilted_2 plain_0 keyframes_held_out
CLIPS     += windows_0 windows_1 windows_2 windows_3 windows_held_out
CLIPS     := $(patsubst %,runs/latents/%.safetensors,$(CLIPS))

CHOICES   := conv1d_attn3d_blocks conv3d_attn1d_blocks conv1d_attn1d_layers
CHOICES   := $(foreach name,$(CHOICES),runs/temporal/temporal_$(name).safetensors)

train-tiny: runs/keyframes_13/keyframe.safetensors $(CHOICES) runs/interp_3/interpolation.safetensors runs/decoder/movq.safetensors
	$(BIN)/python -m training.assemble --output runs/tiny $(addprefix --temporal+=,$(CHOICES))
	@echo 'runs/tiny is a model folder: python -m fusionframes_core generate --model runs/tiny ...'

runs/autoencoder/movq.safetensors: | $(DEVELOP)
	$(TRAIN) training.train_autoencoder --config $(CONFIGS)/tiny_autoencoder.yaml

runs/text_encoder/text_encoder.safetensors: | $(DEVELOP)
	$(TRAIN) training.train_text_encoder --config $(CONFIGS)/tiny_text_encoder.yaml

runs/text_encoder_2/text_encoder.safetensors: runs/text_encoder/text_encoder.safetensors
	$(TRAIN) training.train_text_encoder --config $(CONFIGS)/tiny_text_encoder_2.yaml

$(CLIPS): runs/latents/%.safetensors: runs/autoencoder/movq.safetensors
	$(PREPARE) --output $@ $(CLIPS_$*)

CLIPS_keyframes_0        := --kind keyframes --count 3000 --seed 1
CLIPS_keyframes_1        := --kind keyframes --count 3000 --seed 2
CLIPS_keyframes_2        := --kind keyframes --count 3000 --seed 3
CLIPS_keyframes_3        := --kind keyframes --count 4000 --seed 31
CLIPS_keyframes_4        := --kind keyframes --count 4500 --seed 202
CLIPS_turning_0          := --kind turning --count 1600 --seed 11
CLIPS_turning_1          := --kind turning --count 3000 --seed 13
CLIPS_turning_2          := --kind turning --count 1500 --seed 33
CLIPS_spinning_0         := --kind spinning --count 3000 --seed 14
CLIPS_spinning_1         := --kind spinning --count 3000 --seed 34
CLIPS_spinning_2         := --kind spinning --count 3500 --seed 201
CLIPS_spinning_3         := --kind spinning --count 2500 --seed 203
CLIPS_tilted_0           := --kind tilted --count 1500 --seed 231
CLIPS_tilted_1           := --kind tilted --count 1500 --seed 232
CLIPS_tilted_2           := --kind tilted --count 1500 --seed 233
CLIPS_plain_0            := --kind plain --count 1500 --seed 221
CLIPS_keyframes_held_out := --kind keyframes --count 300 --seed 9 --held_out true
CLIPS_windows_0          := --kind windows --count 2000 --seed 1
CLIPS_windows_1          := --kind windows --count 3000 --seed 12
CLIPS_windows_2          := --kind windows --count 2600 --seed 61
CLIPS_windows_3          := --kind windows --count 2400 --seed 62
CLIPS_windows_held_out   := --kind windows --count 200 --seed 9 --held_out true

runs/image/image.safetensors: runs/text_encoder/text_encoder.safetensors $(CLIPS)
	$(TRAIN) training.train_image --config $(CONFIGS)/tiny_image.yaml

runs/keyframes/keyframe.safetensors: runs/image/image.safetensors
	$(TRAIN) training.train_keyframes --config $(CONFIGS)/tiny_keyframes.yaml

KEYFRAMES := $(patsubst %,runs/keyframes_%/keyframe.safetensors,2 3 4 5 6 7 8 9 10 11 12 13)

$(KEYFRAMES): runs/keyframes_%/keyframe.safetensors:
	$(TRAIN) training.train_keyframes --config $(CONFIGS)/tiny_keyframes_$*.yaml

# What each goes on from.
runs/keyframes_2/keyframe.safetensors: runs/keyframes/keyframe.safetensors
runs/keyframes_3/keyframe.safetensors: runs/keyframes_2/keyframe.safetensors runs/image_2/image.safetensors
runs/keyframes_4/keyframe.safetensors: runs/keyframes_3/keyframe.safetensors
runs/keyframes_5/keyframe.safetensors: runs/keyframes_4/keyframe.safetensors runs/image_3/image.safetensors
runs/keyframes_6/keyframe.safetensors: runs/keyframes_5/keyframe.safetensors runs/image_4/image.safetensors
runs/keyframes_7/keyframe.safetensors: runs/keyframes_6/keyframe.safetensors
runs/keyframes_8/keyframe.safetensors: runs/keyframes_7/keyframe.safetensors
runs/keyframes_9/keyframe.safetensors: runs/keyframes_8/keyframe.safetensors
runs/keyframes_10/keyframe.safetensors: runs/keyframes_9/keyframe.safetensors
runs/keyframes_11/keyframe.safetensors: runs/keyframes_10/keyframe.safetensors
runs/keyframes_12/keyframe.safetensors: runs/keyframes_11/keyframe.safetensors
runs/keyframes_13/keyframe.safetensors: runs/keyframes_12/keyframe.safetensors

runs/image_2/image.safetensors: runs/image/image.safetensors
	$(TRAIN) training.train_image --config $(CONFIGS)/tiny_image_2.yaml

runs/image_3/image.safetensors: runs/image_2/image.safetensors
	$(TRAIN) training.train_image --config $(CONFIGS)/tiny_image_3.yaml

runs/image_4/image.safetensors: runs/image_3/image.safetensors runs/text_encoder_2/text_encoder.safetensors
	$(TRAIN) training.train_image --config $(CONFIGS)/tiny_image_4.yaml

# Each in a folder of its own, then beside the others.
runs/temporal/temporal_%.safetensors: runs/keyframes_13/keyframe.safetensors
	$(TRAIN) training.train_keyframes --config $(CONFIGS)/tiny_keyframes_$*.yaml --init $< --text_encoder runs/text_encoder_2
	@mkdir -p $(@D) && cp runs/keyframes_$*/$(@F) $@

runs/interp_frames/interpolation.safetensors: runs/image/image.safetensors
	$(TRAIN) training.train_interp --config $(CONFIGS)/tiny_interp_frames.yaml

runs/interp/interpolation.safetensors: runs/interp_frames/interpolation.safetensors
	$(TRAIN) training.train_interp --config $(CONFIGS)/tiny_interp.yaml

runs/interp_2/interpolation.safetensors: runs/interp/interpolation.safetensors
	$(TRAIN) training.train_interp --config $(CONFIGS)/tiny_interp_2.yaml

runs/interp_3/interpolation.safetensors: runs/interp_2/interpolation.safetensors
	$(TRAIN) training.train_interp --config $(CONFIGS)/tiny_interp_3.yaml

runs/image_decoder/movq.safetensors: runs/autoencoder/movq.safetensors
	$(TRAIN) training.train_autoencoder --config $(CONFIGS)/tiny_image_decoder.yaml

runs/decoder/movq.safetensors: runs/image_decoder/movq.safetensors
	$(TRAIN) training.train_decoder --config $(CONFIGS)/tiny_decoder.yaml

# The image and keyframe stages of the bundled model go on with a card: one process, bf16, batches of 512 frames and of 64
# clips. The clips are encoded by the CPU, which needs no card: `make -j4 card-latents`. CARD="--train.steps 2 ..." are
# options of every run, CARD_CLIPS clips of each kind.
CARD        ?=
CARD_CLIPS  ?= 6000
CARD_DATA   := $(patsubst %,runs/card/latents/%.safetensors,keyframes turning keyframes_held_out)
CARD_CHOICE := runs/card/temporal/temporal_%.safetensors
TINY        := fusionframes_core/tiny

train-tiny-card: runs/card/keyframes/keyframe.safetensors $(patsubst runs/temporal/%,runs/card/temporal/%,$(CHOICES))
	$(BIN)/python -m training.assemble --output runs/card/tiny --text_encoder $(TINY)/text_encoder.safetensors \
		--keyframe $< --interpolation $(TINY)/interpolation.safetensors --movq $(TINY)/movq.safetensors \
		$(addprefix --temporal+=,$(filter runs/card/temporal/%,$^))
	@echo 'runs/card/tiny is a model folder: python -m training.evaluate shapes --model runs/card/tiny'

card-latents: $(CARD_DATA)

$(CARD_DATA): runs/card/latents/%.safetensors: | $(DEVELOP)
	OMP_NUM_THREADS=1 $(BIN)/python -m training.latents --movq $(TINY)/movq.safetensors --decoder conv1 --output $@ $(CARD_$*)

CARD_keyframes          := --kind keyframes --count $(CARD_CLIPS) --seed 21
CARD_turning            := --kind turning --count $(CARD_CLIPS) --seed 22
CARD_keyframes_held_out := --kind keyframes --count 300 --seed 9 --held_out true

runs/card/image/image.safetensors: $(CARD_DATA)
	$(BIN)/python -m training.train_image --config $(CONFIGS)/tiny_image_card.yaml $(CARD)

runs/card/keyframes/keyframe.safetensors: runs/card/image/image.safetensors
	$(BIN)/python -m training.train_keyframes --config $(CONFIGS)/tiny_keyframes_card.yaml $(CARD)

# The other conditionings begin with what fits of the new one: the image weights below them are new.
$(CARD_CHOICE): runs/card/keyframes/keyframe.safetensors
	$(BIN)/python -m training.train_keyframes --config $(CONFIGS)/tiny_keyframes_card.yaml --image null --init $< \
		--parts temporal --temporal $* --train.output runs/card/keyframes_$* --train.steps 2000 --train.decay_steps 800 $(CARD)
	@mkdir -p $(@D) && cp runs/card/keyframes_$*/$(@F) $@

clean:
	rm -rf "$(OUTPUT)" .pytest_cache .ruff_cache .mypy_cache build *.egg-info
	find . -path "./$(VENV)" -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf "$(VENV)"
