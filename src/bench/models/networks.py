"""The networks that can be trained and applied, as one literal table."""

import functools
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.errors import OUTSIDE, BenchError, unknown_name
from bench.words import ENCODER, TRANSFORMER, OurNetworks

# Tile and halo, px.
Geometry = tuple[int, int]
# The first is that of the training. Of a large image 1.8, 1.6, 2.2 and 1.3 times its pixels are
# computed with them.
GEOMETRIES: tuple[Geometry, ...] = ((384, 64), (512, 64), (512, 128), (1024, 64))
# The same of volumes, in voxels: what CryoVesNet's weights are published with.
_VOLUME_GEOMETRIES: tuple[Geometry, ...] = ((64, 20),)
_PATCH_PX = 256
_BATCH_SIZE = 8
# Share of the one size that a network takes which is halo, on either side.
_HALO_SHARE = 8
_TILED = "bench.inference.prediction:open_tiled"
# Of what takes volumes: bench.inference.volumes applies it, and sections are refused.
_OF_VOLUMES = "bench.inference.volumes:refuse_sections"
# Numbers of a token of TransUNet, and among how many heads they are shared.
_PUBLISHED_WIDTH, _HEADS = 768, 12
_RESIDUAL_LEVELS = 3
# Pooling of the anisotropic U-Net: planes that lie ten pixels apart are joined late.
_ANISOTROPIC = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))


def _no_arguments(config: Any) -> dict[str, Any]:
    """Of a network whose builder takes none, or whose source says all of them."""
    return {}


def _no_reach(arguments: dict[str, Any]) -> int:
    """Of a network that is not streamed."""
    return 0


@dataclass(frozen=True)
class Network:
    """An architecture: all that the suite must know of it, whoever brings it.

    A torch module from normalised sections (batch, 1, y, x) to logits (batch, channels, y, x), or
    from volumes (batch, 1, z, y, x) to as many axes, needs ``name``, ``build``, ``arguments``,
    ``multiple`` and ``steps``, and ``dims`` for volumes; the rest has defaults.
    What is called late may be given as ``module:function``, which is imported when it is called.

    Attributes:
        name: The name in rows of METHODS and in checkpoints.
        build: Makes the network with random weights. It is called with the keyword arguments that
            a checkpoint keeps: those of ``arguments``, and ``out_channels`` where a step trains it.
        arguments: From the settings of a step to the builder's arguments, without a source.
        multiple: What the sides of every input must be a multiple of: a number, or a function of
            the builder's arguments. Of volumes, y and x.
        dims: 2 takes sections, 3 takes volumes.
        plane_multiple: The same along z; None where it is that of y and x.
        window_planes: Planes of a window without its halo, and of the halo, along z; None where
            they are as many as in y and x. A patch of a training has the planes of both.
        patch_px: Edge of a patch in y and x that is usual.
        batch_size: Patches in a batch that are usual.
        streamed_by: Applies it plane after plane, from the module, slabs and a dtype to logits, as
            bench.models.unet3d_stream does; None where it is applied window by window.
        reach: How many voxels beyond its window what it is streamed to depends on, given the
            builder's arguments.
        size_px: The one edge of every input; None where any multiple will do.
        geometries: Tiles and halos of which one is chosen on validation, that of the training
            first; empty for those of GEOMETRIES that fit.
        steps: The entry points that can train it, or make a model of it.
        trained_by: Trains it in place of the loop of finetune: see bench.steps.training.outside;
            None for that loop.
        settings: Settings of finetune that ``trained_by`` follows, beside those that say on what it
            trains. Others are refused where they are typed.
        one_fit: Whether that is one fit on pixels (bench.training.pixels), whose time is known
            before it begins.
        takes_source: Whether that is given the path of the source's checkpoint, as ``source``.
        opened_by: Reads a checkpoint for prediction: from its path, a Compute and the name of the
            structure to a Predictor. What _TILED opens is applied tile by tile and resumes there.
        finds_instances: Whether its predictions are instances: those have no mean over symmetries.
        packages: Distributions that must be installed to train or apply it, beside what every
            network needs.
        installed_by: The command that installs them, where they are not installed with the suite.
        licence: Their licence, where it asks for more than the suite's own does.
        parts: How the names of the tensors begin that transfer and freeze mean by ``encoder`` and
            by ``transformer``; a network of neither has none.
    """

    name: str
    build: Callable[..., Any] | str
    arguments: Callable[[Any], dict[str, Any]] = _no_arguments
    multiple: int | Callable[[dict[str, Any]], int] = 1
    dims: int = 2
    plane_multiple: int | Callable[[dict[str, Any]], int] | None = None
    window_planes: Geometry | None = None
    patch_px: int = _PATCH_PX
    batch_size: int = _BATCH_SIZE
    streamed_by: Callable[..., Any] | str | None = None
    reach: Callable[[dict[str, Any]], int] = _no_reach
    size_px: int | None = None
    geometries: tuple[Geometry, ...] = ()
    steps: tuple[str, ...] = ()
    trained_by: Callable[..., Any] | str | None = None
    settings: tuple[str, ...] = ()
    one_fit: bool = False
    takes_source: bool = False
    opened_by: Callable[..., Any] | str = _TILED
    finds_instances: bool = False
    packages: tuple[str, ...] = ()
    installed_by: str = ""
    licence: str = ""
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def foreseen(self) -> bool:
        """Whether it is known how long it takes before it is trained."""
        return self.trained_by is None or self.one_fit

    @property
    def tiled(self) -> bool:
        """Whether it is applied tile by tile."""
        return self.opened_by == _TILED

    @property
    def terms(self) -> str:
        """Packages whose licence asks for more than the suite's, with it; empty without any."""
        return f"{', '.join(self.packages)} ({self.licence})" if self.licence else ""

    def fit_patch(self, patch_px: int | None, arguments: dict[str, Any]) -> int:
        """Edge of a training patch in px: what the user gave if it fits, else what is usual.

        Raises:
            BenchError: If the network does not take it.
        """
        if patch_px is None:
            return self.size_px or self.patch_px - self.patch_px % self._multiple_of(arguments)
        self._check_edge("patch_px", patch_px, arguments)
        return patch_px

    def fit_geometry(
        self, tile_px: int | None, halo_px: int | None, arguments: dict[str, Any]
    ) -> Geometry:
        """Tile and halo in px: what the user gave if it fits, and what is usual for the rest.

        Raises:
            BenchError: If the network does not take them.
        """
        usual_tile, usual_halo = self.choices(arguments)[0]
        if self.size_px is not None and tile_px is not None:
            usual_halo = max(0, self.size_px - tile_px) // 2
        if self.size_px is not None and halo_px is not None:
            usual_tile = self.size_px - 2 * halo_px
        tile = usual_tile if tile_px is None else tile_px
        halo = usual_halo if halo_px is None else halo_px
        self._check_edge("tile_px + 2 halo_px", tile + 2 * halo, arguments)
        return tile, halo

    def choices(self, arguments: dict[str, Any]) -> tuple[Geometry, ...]:
        """Tiles and halos of which one is chosen on validation, that of the training first."""
        if self.geometries:
            return self.geometries
        if self.size_px is not None:
            halo = self.size_px // _HALO_SHARE
            return ((self.size_px - 2 * halo, halo),)
        multiple = self._multiple_of(arguments)
        usual = GEOMETRIES if self.dims == 2 else _VOLUME_GEOMETRIES
        return tuple((tile - (tile + 2 * halo) % multiple, halo) for tile, halo in usual)

    def fit_planes(self, geometry: Geometry) -> Geometry:
        """Tile and halo along z that go with those of y and x, of a network of volumes."""
        return self.window_planes or geometry

    def patch_planes(self, patch_px: int) -> int:
        """Planes of a training patch of an edge in y and x, of a network of volumes."""
        if self.window_planes is None:
            return patch_px
        tile, halo = self.window_planes
        return tile + 2 * halo

    def multiples(self, arguments: dict[str, Any]) -> tuple[int, ...]:
        """What each side of an input must be a multiple of: (y, x) or (z, y, x)."""
        inside = self._multiple_of(arguments)
        if self.dims == 2:
            return inside, inside
        planes = self.plane_multiple
        if planes is None:
            planes = inside
        return (planes(arguments) if callable(planes) else planes), inside, inside

    def _multiple_of(self, arguments: dict[str, Any]) -> int:
        """What the sides of an input must be a multiple of, given the builder's arguments."""
        return self.multiple(arguments) if callable(self.multiple) else self.multiple

    def _check_edge(self, setting: str, edge: int, arguments: dict[str, Any]) -> None:
        """Raises BenchError where the network does not take inputs of an edge (px)."""
        if self.size_px is not None and edge != self.size_px:
            raise BenchError(
                f"{setting} must be {self.size_px}, the one size that the network {self.name} "
                f"takes, received {edge}: leave it auto"
            )
        multiple = self._multiple_of(arguments)
        if edge < 1 or edge % multiple:
            raise BenchError(f"{setting} must be a multiple of {multiple}, received {edge}")


def _unet2d_arguments(config: Any) -> dict[str, Any]:
    """The depth of SynapseNet's U-Net and the paper's."""
    return {"in_channels": 1, "depth": 4, "features": config.features}


def _residual_arguments(config: Any) -> dict[str, Any]:
    """Three levels, on blocks of 4 px: what learned most in minutes (docs/best_practice.md)."""
    features = [config.features << level for level in range(_RESIDUAL_LEVELS)]
    return {"in_channels": 1, "features": features, "stride": 4, "detail": 8}


def _small_arguments(config: Any) -> dict[str, Any]:
    return {"features": config.features}


def _yolo_arguments(config: Any, *, family: str, scale: str) -> dict[str, Any]:
    return {"family": family, "scale": scale}


def _unet3d_arguments(config: Any) -> dict[str, Any]:
    """The depth of CryoVesNet's U-Net."""
    return {"in_channels": 1, "depth": 2, "features": config.features}


def _folds_arguments(config: Any) -> dict[str, Any]:
    return _unet3d_arguments(config) | {"folds": config.folds}


def _anisotropic_arguments(config: Any) -> dict[str, Any]:
    factors = [list(factors) for factors in _ANISOTROPIC]
    return {"in_channels": 1, "features": config.features, "scale_factors": factors}


def _transunet_arguments(config: Any) -> dict[str, Any]:
    """The published width, or the one that is typed."""
    width = _PUBLISHED_WIDTH if config.width is None else config.width
    if width % _HEADS:
        raise BenchError(
            f"width must be a multiple of {_HEADS}, the heads of a transunet, received {width}: "
            f"{_PUBLISHED_WIDTH} is published, 192 is a quarter of its tokens' numbers"
        )
    return {"width": width}


def _pooled_sides(arguments: dict[str, Any]) -> int:
    """By how much a 3D U-Net reduces a section's sides; both by the same in all of SynapseNet's."""
    factors = arguments["scale_factors"]
    return math.lcm(math.prod(f[1] for f in factors), math.prod(f[2] for f in factors))


_DETECTORS = {OurNetworks.FCOS_SMALL: _small_arguments, OurNetworks.FCOS_RESNET50: _no_arguments}
# What ultralytics describes, and how deep and wide it is.
_YOLOS = {
    OurNetworks.YOLOV8N: ("v8/yolov8", "n"),
    OurNetworks.YOLOV8S: ("v8/yolov8", "s"),
    OurNetworks.YOLO11N: ("11/yolo11", "n"),
    OurNetworks.YOLO11S: ("11/yolo11", "s"),
}
# A new network is one row, and one file that builds it.
NETWORKS: dict[str, Network] = {
    row.name: row
    for row in (
        Network(
            OurNetworks.UNET2D,
            build="bench.models.unet2d:build_unet2d",
            arguments=_unet2d_arguments,
            multiple=lambda arguments: 2 ** int(arguments["depth"]),
            steps=("finetune", "domain_adapt", "pretrain"),
            parts={ENCODER: ("encoder.", "base.")},
        ),
        # A stopgap for published models, which are applied as they are.
        Network(
            OurNetworks.UNET3D_PLANES,
            build="bench.models.unet3d_torch_em:build_unet3d_planes",
            multiple=_pooled_sides,
        ),
        # The shape of CryoVesNet, and its usual patch.
        Network(
            OurNetworks.UNET3D,
            build="bench.models.unet3d:build_unet3d",
            arguments=_unet3d_arguments,
            multiple=lambda arguments: 2 ** int(arguments["depth"]),
            dims=3,
            patch_px=32,
            batch_size=50,
            streamed_by="bench.models.unet3d_stream:stream_unet3d",
            # Four convolutions a level and two at the coarsest see 6 * 2 ** depth - 4 voxels, of
            # whole pooled ones.
            reach=lambda arguments: 6 * 2 ** int(arguments["depth"]),
            steps=("finetune",),
            opened_by=_OF_VOLUMES,
        ),
        # Several of them, each trained without one part of the volumes; their mean.
        Network(
            OurNetworks.UNET3D_FOLDS,
            build="bench.models.unet3d_folds:build_unet3d_folds",
            arguments=_folds_arguments,
            multiple=lambda arguments: 2 ** int(arguments["depth"]),
            dims=3,
            patch_px=32,
            batch_size=50,
            streamed_by="bench.models.unet3d_folds:stream_unet3d_folds",
            reach=lambda arguments: 6 * 2 ** int(arguments["depth"]),
            steps=("finetune",),
            opened_by=_OF_VOLUMES,
        ),
        # For serial sections, whose voxels are longer along z.
        Network(
            OurNetworks.UNET3D_ANISOTROPIC,
            build="bench.models.unet3d_torch_em:build_unet3d_anisotropic",
            arguments=_anisotropic_arguments,
            multiple=_pooled_sides,
            dims=3,
            plane_multiple=lambda arguments: math.prod(f[0] for f in arguments["scale_factors"]),
            window_planes=(8, 4),
            patch_px=128,
            batch_size=2,
            geometries=((256, 32),),
            steps=("finetune",),
            opened_by=_OF_VOLUMES,
        ),
        # Its BatchNorm gives one prediction in any tile, so that none has to be chosen.
        Network(
            OurNetworks.UNET_RESIDUAL,
            build="bench.models.unet_residual:build_unet_residual",
            arguments=_residual_arguments,
            multiple=lambda args: int(args["stride"]) * 2 ** (len(args["features"]) - 1),
            patch_px=128,
            geometries=((512, 64),),
            steps=("finetune", "pretrain"),
            parts={ENCODER: ("stem.", "encoder.")},
        ),
        Network(
            OurNetworks.UNET_RESNET50,
            build="bench.models.retina.unet_resnet50:build_unet_resnet50",
            multiple=32,
            steps=("finetune", "pretrain"),
            packages=("segmentation_models_pytorch",),
            parts={ENCODER: ("encoder.",)},
        ),
        # Windows of 224 px, which it was published with, are those that its positions are for.
        Network(
            OurNetworks.TRANSUNET,
            build="bench.models.retina.transunet:build_transunet",
            arguments=_transunet_arguments,
            multiple=16,
            patch_px=224,
            geometries=((160, 32), (112, 56)),
            steps=("finetune", "pretrain"),
            parts={
                ENCODER: ("transformer.",),
                TRANSFORMER: ("transformer.encoder.",),
            },
        ),
        # Its shape is what nnU-Net plans for a data set; it has windows and a loop of its own.
        Network(
            OurNetworks.NNUNET,
            build="bench.models.outside.nnunet:build_nnunet",
            steps=("finetune",),
            trained_by="bench.steps.training.nnunet:train_by_plans",
            settings=("iterations", "epoch_iterations", "snapshots", "gpu_gb", "device"),
            opened_by="bench.inference.outside.nnunet:open_nnunet",
            packages=("nnunetv2",),
            installed_by="pip install --no-deps -r requirements-nnunet.txt",
        ),
        # It resizes every window itself. Its shape is that of its source.
        Network(
            OurNetworks.SAM,
            build="bench.models.sam:build_sam",
            steps=("microsam",),
            opened_by="bench.inference.sam.masks:open_sam",
            finds_instances=True,
            packages=("micro_sam",),
        ),
        # A detector whose boxes prompt a SAM: one file has both.
        Network(
            OurNetworks.DETECTOR_SAM,
            build="bench.models.detection.detector_sam:build_detector_sam",
            steps=("microsam",),
            opened_by="bench.inference.detection.prompted:open_detector_sam",
            finds_instances=True,
            packages=("micro_sam",),
        ),
        # They find boxes: one learns on a CPU in minutes, the other is torchvision's by its shape.
        *(
            Network(
                *(name, f"bench.models.detection.fcos:build_{name}", arguments, 32),
                steps=("detect",),
                opened_by="bench.inference.detection.opening:refuse_boxes",
            )
            for name, arguments in _DETECTORS.items()
        ),
        *(
            Network(
                name,
                build="bench.models.detection.yolo:build_yolo",
                arguments=functools.partial(_yolo_arguments, family=family, scale=scale),
                multiple=32,
                steps=("detect",),
                opened_by="bench.inference.detection.opening:refuse_boxes",
                packages=("ultralytics",),
                installed_by="pip install --no-deps -r requirements-yolo.txt",
                licence="AGPL-3.0",
            )
            for name, (family, scale) in _YOLOS.items()
        ),
        # Filters and trees, which are fitted at once. A prediction does not depend on the tile.
        Network(
            OurNetworks.PIXEL_CLASSIFIER,
            build="bench.models.pixels.pixel_classifier:build_pixel_classifier",
            multiple=16,
            geometries=((1024, 208),),
            steps=("finetune",),
            trained_by="bench.steps.training.pixel_classifier:train_pixels",
            one_fit=True,
            settings=("minutes", "device"),
        ),
        # The same, with what a frozen transformer makes of patches beside the filters.
        Network(
            OurNetworks.FOUNDATION_FEATURES,
            build="bench.models.foundation.foundation_features:build_foundation_features",
            multiple=16,
            geometries=((1024, 208),),
            steps=("finetune",),
            trained_by="bench.steps.training.foundation_features:train_foundation",
            takes_source=True,
            one_fit=True,
            settings=("minutes", "device"),
            packages=("timm",),
        ),
    )
}


def find_network(name: str) -> Network:
    """Returns the row of a name.

    Raises:
        BenchError: If the table has no such row.
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS, OUTSIDE)
    return NETWORKS[name]


def find_networks(architecture: str, arguments: Mapping[str, Any]) -> list[Network]:
    """The rows of all that a model is made of: a detector that prompts a SAM has one of its own.

    Args:
        architecture: Row of NETWORKS.
        arguments: What it is built of.
    """
    own = find_network(architecture)
    if architecture != OurNetworks.DETECTOR_SAM:
        return [own]
    return [own, find_network(arguments["detector"]["architecture"])]


def find_trainable(name: str, step: str) -> Network:
    """Returns the row of a network that a step is to train.

    Raises:
        BenchError: If the table has no such row, or the step cannot train it.
    """
    network = find_network(name)
    if step not in network.steps:
        able = [other for other, row in NETWORKS.items() if step in row.steps]
        raise BenchError(
            f"{step} trains the networks {', '.join(able)}, received a method of the network "
            f"{name}, which is trained by {', '.join(network.steps) or 'no step'}: choose another "
            "method"
        )
    return network


def register_network(row: Network) -> None:
    """Adds a network from outside of this suite; the same row again changes nothing.

    Raises:
        BenchError: If another network has its name.
    """
    if NETWORKS.setdefault(row.name, row) != row:
        raise BenchError(
            f"every network must have a name of its own, received a second one named {row.name}: "
            "rename it"
        )


def find_function(reference: Callable[..., Any] | str) -> Callable[..., Any]:
    """The function that a row names as ``module:function``, or holds."""
    if callable(reference):
        return reference
    module, _, function = reference.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found
