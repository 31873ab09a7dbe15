"""A step of SAM's training with a frozen image encoder: ours beside micro_sam's own trainers.

The same network, settings, patches and prompts; ours stores the embeddings of its fixed number of
patches, micro_sam's trainer embeds every patch, and again for its decoder. Feed, validation and
files are timed on neither side. Agreement: both are trained for as many iterations on the same
patches, and their loss on others, which none of both saw. With ``--decoder-features 0`` SAM is
trained alone, by SamTrainer, and else with micro_sam's decoder, by JointSamTrainer.

    PYTHONPATH=src python benchmarks/sam_training.py [--sizes tiny,vit_b]
"""

import argparse
import contextlib
import dataclasses
import itertools
import tempfile
import time
from pathlib import Path

import torch
from measuring import Line, report, time_in_turns
from training_sections import make_section

from bench.inference.device import choose_compute
from bench.inference.sam.embedding_store import EmbeddingStore
from bench.models.sam import build_sam
from bench.training.loop import LoopSettings, make_trainee, train_batch
from bench.training.sam.interactive import (
    SAM_LAYOUT,
    SamTrainingSettings,
    interactive,
    make_trainer,
    prepare_network,
    seed_everything,
)
from bench.training.sam.patches import InstancePatchFeed, InstancePatchSettings

# Edge of the model, blocks, those of global attention, edge of a patch.
SIZES = {"tiny": (256, 1, [0], 256), "vit_b": (1024, 12, [2, 5, 8, 11], 512)}
SUB_ITERATIONS = 8
LR, PATCHES = 1e-4, 16


@dataclasses.dataclass(frozen=True)
class Case:
    """What both sides train.

    Attributes:
        size: Of SIZES.
        decoder_features: Of micro_sam's decoder; 0 for none.
        prompted: How many objects are prompted how often.
    """

    size: str
    decoder_features: int
    prompted: SamTrainingSettings


# Of the comparison of losses, at the small size.
COMPARED, UNSEEN = 40, 6


def make_network(case: Case):
    """A SAM of random weights; its image encoder is frozen."""
    image_px, depth, blocks, _ = SIZES[case.size]
    torch.manual_seed(0)
    network = build_sam(
        image_px=image_px,
        patch_px=16,
        depth=depth,
        embed_dim=768,
        heads=12,
        mlp_dim=3072 if depth > 1 else 768,
        window=14,
        global_blocks=blocks,
        masks=3,
        decoder_features=case.decoder_features,
        transposed=False,
    )
    prepare_network(network, freeze="image_encoder", lora_rank=0)
    return network


def make_feed(case: Case, seed: int, patches: int | None) -> InstancePatchFeed:
    """Patches of synthetic sections; those of another seed are other sections."""
    sections = [make_section(100 * seed + number, (768, 768)) for number in range(2)]
    edge, distances = SIZES[case.size][3], case.decoder_features > 0
    return InstancePatchFeed(sections, InstancePatchSettings(edge, 1, distances, seed, patches))


class Ours:
    """Our steps, with stored embeddings."""

    def __init__(self, case: Case, folder: str) -> None:
        self.network, self.compute = make_network(case), choose_compute("cpu", "auto")
        self.settings = LoopSettings(10**6, 10**6, 10**6, LR, "plateau", 0.5, 5, "adamw")
        placed = dataclasses.replace(self.compute, layout=SAM_LAYOUT)
        self.trainee = make_trainee(self.network, self.settings, placed)
        self.feed = Ready(make_feed(case, 0, PATCHES))
        store = EmbeddingStore(Path(folder), 10**10)
        self.objective = interactive(self.network, self.feed, case.prompted, self.compute, store)
        self.iteration = 0

    def step(self) -> None:
        """Trains on the next batch."""
        train_batch(self.trainee, self.objective, self.settings, self.iteration)
        self.iteration += 1


class Ready:
    """A feed whose batches are drawn before they are asked for."""

    def __init__(self, feed: InstancePatchFeed) -> None:
        self.settings = feed.settings
        self.drawn = [feed.batch(number) for number in range(PATCHES)]

    def batch(self, iteration: int):
        """The batch of an iteration."""
        return self.drawn[iteration % len(self.drawn)]


class Peer:
    """The steps of micro_sam's trainer, by its own code for an epoch."""

    def __init__(self, case: Case, batches) -> None:
        self.network, self.compute = make_network(case), choose_compute("cpu", "auto")
        self.trainer = make_trainer(self.network, case.prompted, self.compute)
        self.trainer._iteration, self.trainer.max_iteration = 0, 10**9
        self.trainer.logger = None
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.trainer.optimizer = torch.optim.AdamW(parameters, lr=LR)
        self.batches = batches

    def step(self) -> None:
        """Trains on the next batch, with the prompts that ours draws: an epoch of one."""
        self.trainer.train_loader = [next(self.batches)]
        seed_everything(0, self.trainer._iteration)
        with contextlib.redirect_stdout(None):
            self.trainer._train_epoch_impl(self, self.compute.autocast, self.learn)

    def learn(self, loss: torch.Tensor) -> None:
        """As torch_em's trainer does."""
        loss.backward()
        self.trainer.optimizer.step()

    def update(self, _: int) -> None:
        """Shows no progress."""


def measure_loss(case: Case, network, feed: InstancePatchFeed) -> float:
    """Mean loss on patches that were not trained on, in fp32."""
    objective = interactive(network, feed, case.prompted, choose_compute("cpu", "fp32"))
    with torch.no_grad():
        return sum(objective.compute(i)[0].item() for i in range(UNSEEN)) / UNSEEN


def compare_losses(case: Case, folder: str) -> str:
    """Trains both, and tells what they reached."""
    unseen = make_feed(case, 7, None)
    ours = Ours(case, folder)
    peer = Peer(case, itertools.cycle(ours.feed.drawn))
    before = measure_loss(case, ours.network, unseen)
    for _ in range(COMPARED):
        ours.step()
        peer.step()
    found, wanted = (measure_loss(case, side.network, unseen) for side in (ours, peer))
    return (
        f"loss on {UNSEEN} unseen patches after {COMPARED} iterations of tiny on {PATCHES}, "
        f"ours/peer: {found:.4f}/{wanted:.4f} (before {before:.4f})"
    )


def measure(case: Case, agreement: str, repeats: int, folder: str) -> Line:
    """Times a step of both, and what storing the embeddings takes once."""
    ours = Ours(case, folder)
    peer = Peer(case, itertools.cycle(ours.feed.drawn[:2]))
    started = time.perf_counter()
    for _ in range(2):
        ours.step()
    # An odd iteration prompts with boxes, an even one with points: both are in a turn.
    ways = {
        "ours": lambda: [ours.step() for _ in "ab"],
        "peer": lambda: [peer.step() for _ in "ab"],
    }
    ours.feed.drawn = ours.feed.drawn[:2]
    peer.trainer._iteration = ours.iteration
    first = (time.perf_counter() - started) / 2
    seconds, _ = time_in_turns(ways, repeats=repeats, warm_up=case.size == "tiny")
    image_px, depth, _, patch_px = SIZES[case.size]
    objects = min(int(ours.feed.drawn[0][1][:, 0].max()), case.prompted.objects_per_batch)
    return Line(
        path="SAM training, frozen encoder",
        size=f"{patch_px} px, {objects} objects, SAM of {image_px} px and {depth} blocks",
        ours_s=seconds["ours"] / 2,
        peer=f"micro_sam {type(peer.trainer).__name__}",
        peer_s=seconds["peer"] / 2,
        goal=3.0 if case.size != "tiny" else None,
        agreement=agreement,
        limit=f"first use of a patch, with its embedding: {first:.3g} s; {ours.compute.precision}",
    )


def main() -> None:
    """Measures the sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="tiny,vit_b")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--objects", type=int, default=25, help="prompted of a patch")
    parser.add_argument("--decoder-features", type=int, default=64)
    options = parser.parse_args()
    prompted = SamTrainingSettings(SUB_ITERATIONS, options.objects)
    sizes = options.sizes.split(",")
    tiny, *cases = (Case(size, options.decoder_features, prompted) for size in ("tiny", *sizes))
    with tempfile.TemporaryDirectory() as folder:
        agreement = compare_losses(tiny, folder)
        lines = [measure(case, agreement, options.repeats, folder) for case in cases]
    report(__file__, lines)


if __name__ == "__main__":
    main()
