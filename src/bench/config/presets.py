"""How large a benchmark is, by a name: what ``preset`` gives settings that the user left open."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench.config.running import PRESETS, BenchmarkConfig
from bench.config.training import FinetuneConfig
from bench.methods import FIRST_RELEASE
from bench.words import AUTO, NONE

_QUICK, _EVENING, _PAPER = PRESETS
_CPU, _GPU = "cpu", "cuda"


@dataclass(frozen=True)
class _Preset:
    """Values of settings of benchmark.

    Attributes:
        methods: Its methods.
        from_scratch: Those in their place where the weights that they start from are not there.
        seeds: As the setting.
        iterations: As the setting.
        patch_px: As the setting; None is the network's.
        tile_px: As the setting; None is chosen on validation, which takes three predictions of it.
        lr: As the setting; None is the method's.
        schedule: As the setting.
        domain_adapt: Settings of domain_adapt, before what the user types.
        microsam: Settings of microsam, before what the user types.
    """

    methods: tuple[str, ...]
    from_scratch: tuple[str, ...]
    seeds: str
    iterations: int | None
    patch_px: int | None = None
    tile_px: int | None = None
    lr: float | None = None
    schedule: str = AUTO
    domain_adapt: str = NONE
    microsam: str = NONE


_AS_IN_THE_PAPER = _Preset(
    methods=FIRST_RELEASE,
    from_scratch=("scratch", "scratch_dice"),
    seeds="0",
    iterations=FinetuneConfig.iterations,
)
# By name and kind of device. A short training needs a high rate that falls to zero, and a CPU
# patches of a quarter of the pixels; there no SAM is trained and nothing adapted: hours each.
_PRESETS: dict[str, dict[str, _Preset]] = {
    _QUICK: {
        _CPU: _Preset(
            methods=("unadapted", "finetuned", "scratch"),
            from_scratch=("scratch",),
            seeds="0",
            iterations=150,
            patch_px=128,
            tile_px=512,
            lr=1e-3,
            schedule="cosine",
        ),
        _GPU: _Preset(
            methods=("unadapted", "finetuned", "microsam_zero_shot", "scratch"),
            from_scratch=("scratch",),
            seeds="0",
            iterations=500,
            lr=1e-3,
            schedule="cosine",
        ),
    },
    _EVENING: {
        _CPU: _Preset(
            methods=("unadapted", "finetuned", "finetuned_dice", "finetuned_boundary", "scratch"),
            from_scratch=("scratch", "scratch_dice"),
            seeds="0,1",
            iterations=500,
            patch_px=128,
            tile_px=512,
            lr=1e-3,
            schedule="cosine",
        ),
        _GPU: _Preset(
            methods=(*FIRST_RELEASE, "scratch"),
            from_scratch=("scratch", "scratch_dice"),
            seeds="0,1,2",
            iterations=2000,
            lr=1e-3,
            schedule="cosine",
            domain_adapt="iterations=2000",
            microsam="iterations=500",
        ),
    },
    _PAPER: {_CPU: _AS_IN_THE_PAPER, _GPU: _AS_IN_THE_PAPER},
}


def with_preset(config: BenchmarkConfig, device: str) -> BenchmarkConfig:
    """A config whose open settings have the values of its preset; what was typed stays.

    Args:
        config: The settings as typed.
        device: Kind of the device: ``cpu`` or ``cuda``.
    """
    preset = _find(config, device)
    if config.minutes is not None:
        # They say how much is trained, and the rate follows from that.
        preset = replace(preset, iterations=None, lr=None, domain_adapt=NONE, microsam=NONE)
    tile_is_open = config.tile_px is None and config.halo_px is None
    return replace(
        config,
        methods=",".join(preset.methods) if config.methods == AUTO else config.methods,
        seeds=preset.seeds if config.seeds == AUTO else config.seeds,
        iterations=preset.iterations if config.iterations is None else config.iterations,
        patch_px=preset.patch_px if config.patch_px is None else config.patch_px,
        tile_px=preset.tile_px if tile_is_open else config.tile_px,
        lr=preset.lr if config.lr is None else config.lr,
        schedule=preset.schedule if config.schedule == AUTO else config.schedule,
        domain_adapt=_put_before(preset.domain_adapt, config.domain_adapt),
        microsam=_put_before(preset.microsam, config.microsam),
    )


def methods_from_scratch(config: BenchmarkConfig, device: str) -> tuple[str, ...]:
    """The methods of a config's preset that start from random weights alone."""
    return _find(config, device).from_scratch


def _find(config: BenchmarkConfig, device: str) -> _Preset:
    found: Mapping[str, _Preset] = _PRESETS[_PAPER if config.preset == AUTO else config.preset]
    return found.get(device, found[_CPU])


def _put_before(preset: str, typed: str) -> str:
    """Settings of a stage: of two with the same name, the later counts."""
    if NONE in (preset, typed) or not typed.strip():
        return preset if typed in (NONE, "") else typed
    separator = ";" if ";" in typed else ","
    return separator.join((preset.replace(",", separator), typed))
