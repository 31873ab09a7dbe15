"""What every part computes of fixed input: other numbers are another version of it.

Inputs are whole numbers or drawn by a seed, and everything is computed in fp32 on the CPU, so that
machines differ in the last digits only. Steps are in tests/steps/test_stored_results.py.
"""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, label

from bench.inference.device import Compute
from bench.inference.prediction import SectionPrediction
from bench.models.unet2d import InstanceNorm
from bench.postprocess.instances import Instances

CPU = Compute(torch.device("cpu"), "fp32")


def make_field(seed: int, shape: tuple[int, int] = (80, 72)) -> np.ndarray:
    """Smooth noise of deviation 1."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    return field / field.std()


def make_section(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Raw, and instances that are darker."""
    field = make_field(seed)
    noise = np.random.default_rng(seed).normal(0, 8, field.shape)
    return np.clip(130 - 30 * field + noise, 0, 255).astype(np.uint8), label(field > 0.8)[0]


def make_levels(seed: int, noise: float = 0.5) -> np.ndarray:
    """Probabilities of a section's instances by a model that errs."""
    seen = make_field(seed) + noise * make_field(seed + 100)
    return np.round(255 / (1 + np.exp(-3 * (seen - 0.8)))).astype(np.uint8)


def make_network(channels: int = 1) -> torch.nn.Module:
    """Two convolutions, of which the last has the name that a U-Net's has."""
    torch.manual_seed(0)
    network = torch.nn.Sequential()
    network.add_module("conv", torch.nn.Conv2d(1, 4, 3, padding=1))
    network.add_module("norm", InstanceNorm(4))
    network.add_module("out_conv", torch.nn.Conv2d(4, channels, 1))
    return network


def feeding(_):
    from bench.core.pixels import stretch_contrast
    from bench.inference.feeding import normalise_section, resize_labels, resize_section
    from bench.inference.prediction import feed_section, model_shape
    from bench.models.checkpoint import ModelInfo

    raw, labels = make_section(0)
    info = ModelInfo("unet2d", {}, ("foreground",), "vesicles", 4.0, "section", 32, 16)
    return {
        "normalised": normalise_section(raw),
        "contrast": stretch_contrast(raw),
        "smaller": resize_section(raw, (50, 70)),
        "much smaller": resize_section(raw, (20, 18)),
        "larger": feed_section(raw, info, 5.0)[:],
        "labels": resize_labels(labels, (50, 70)),
        "shapes": [list(model_shape(raw.shape, 4.0, nm)) for nm in (5.0, 4.02, None)],
    }


def patches(_):
    from bench.training.augment import Augmentation
    from bench.training.patches import PatchFeed, PatchSettings

    settings = PatchSettings(32, 4, 0.5, Augmentation(False, False, 0.0, 0.0), seed=3)
    sections = [make_section(seed) for seed in (0, 1)]
    feed = PatchFeed(sections, settings, CPU.device, ("foreground", "boundary"))
    batches = [feed.batch(iteration) for iteration in (0, 1)]
    return {
        "images": [image for image, _ in batches],
        "targets": [[int(channel.sum()) for channel in t.unbind(1)] for _, t in batches],
    }


def volume_patches(_):
    from bench.inference.volume_feed import VolumeFeed
    from bench.training.volume_patches import (
        VolumeAugmentation,
        VolumePatchFeed,
        VolumePatchSettings,
        hold_volume,
    )

    raw, labels = (np.stack(planes) for planes in zip(*map(make_section, range(6)), strict=True))
    results = {}
    for name, smoothing_px, turn in (("tomogram", 0.0, False), ("sections", 1.0, True)):
        seen = VolumeFeed(lambda a, b: raw[a:b], raw.shape, raw.shape, smoothing_px, "volume")
        settings = VolumePatchSettings(
            (4, 16, 16), 4, 0.5, VolumeAugmentation(True, turn, 0.0), seed=3
        )
        feed = VolumePatchFeed([hold_volume(raw, labels, seen)], settings, CPU.device)
        batches = [feed.batch(iteration) for iteration in (0, 1)]
        results[name] = {
            "images": [image.numpy() for image, _ in batches],
            "targets": [int(target.sum()) for _, target in batches],
        }
    return results


def augmentation(_):
    from bench.training.augment import Augmentation, augment_windows

    windows = np.stack([make_field(seed, (192, 192)) for seed in range(6)])[:, None]
    image = torch.from_numpy(windows.astype(np.float32))
    results = {}
    for name, what in {
        "all": Augmentation(True, True, 4.0, 0.1),
        "elastic": Augmentation(False, False, 8.0, 0.0),
        "turned": Augmentation(True, False, 0.0, 0.0),
    }.items():
        rng = np.random.default_rng(1)
        patch, mask = augment_windows(
            image, (image > 0.8).float(), patch_px=96, augmentation=what, rng=rng
        )
        results[name] = [patch.numpy(), mask.numpy()]
    return results


def views(_):
    from bench.training.views import draw_placements, place_views, spoil_views, view_window_edge

    rng = np.random.default_rng(0)
    matrices = draw_placements(3, 64, rng)
    edge = view_window_edge(64)
    field = np.stack([make_field(seed, (edge, edge)) for seed in range(3)])
    windows = torch.from_numpy(field)[:, None].float()
    whole = place_views(windows, matrices, 64)
    return {
        "matrices": matrices,
        "whole": whole.numpy(),
        "spoiled": spoil_views(whole, rng).numpy(),
    }


def spheres(_):
    from sphere_scenes import blur_probability, draw_scene

    from bench.postprocess.spheres.settings import SphereSettings
    from bench.postprocess.spheres.spheres import find_spheres

    scene, results = draw_scene((64, 64, 64), 9, seed=0, tilt_deg=60), {}
    levels = blur_probability(scene.labels, 1.0)
    for protocol in ("data", "paper"):
        settings = SphereSettings(protocol=protocol)
        found = find_spheres(scene.raw, levels, voxel_size_nm=2.2, settings=settings)
        results[protocol] = {
            "centres": found.spheres.centres,
            "radii": found.spheres.radii,
            "painted": int((found.labels > 0).sum()),
            "level": found.threshold_level,
        }
    return results


def losses(_):
    from bench.methods import CLASS_LOSS, LOSSES
    from bench.training.objectives import make_loss

    logits = torch.from_numpy(np.stack([[make_field(0), make_field(1)]])).float()
    target = torch.from_numpy(np.stack([[make_field(2) > 0.8, make_field(3) > 1]]))
    return {
        name: make_loss(name, gamma=2.0, foreground_weight=5.0)(logits, target).item()
        for name in LOSSES
        if name != CLASS_LOSS
    }


def classes(_):
    from bench.inference.tiles import start_tiles
    from bench.training.augment import Augmentation
    from bench.training.objectives import class_loss
    from bench.training.patches import PatchFeed, PatchSettings

    settings = PatchSettings(32, 4, 0.5, Augmentation(False, False, 0.0, 0.0), seed=3)
    (raw, first), (_, second) = (make_section(seed) for seed in (0, 1))
    outputs = ("background", "first", "second")
    feed = PatchFeed([(raw, np.stack([first, second]))], settings, CPU.device, outputs)
    image, target = feed.batch(0)
    logits = torch.from_numpy(np.stack([[make_field(seed) for seed in (0, 1, 2)]])).float()
    truth = torch.from_numpy(np.stack([[make_field(3) > 0.8]])).float()
    truth = torch.cat([1 - truth, truth, torch.zeros_like(truth)], 1)
    network = torch.nn.Conv2d(1, 3, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([-1.0, 0.5, 2.0]).reshape(3, 1, 1, 1)
        network.bias[:] = torch.tensor([0.5, 0.2, -1.0])
    tiles = make_field(0, (64, 64))[None].astype(np.float32)
    return {
        "image": image.numpy(),
        "target": [int(channel.sum()) for channel in target.unbind(1)],
        "loss": class_loss(logits, truth, weights=(1.0, 2.0, 5.0)).item(),
        "softmax": start_tiles(network, tiles, 8, CPU, classes=True).numpy(),
    }


def training_loop(request):
    from safetensors import safe_open

    from bench.training.loop import LoopSettings, Reports, make_trainee, train
    from bench.training.objectives import Objective

    image = torch.from_numpy(make_field(0))[None, None].float()
    folder, results = request.getfixturevalue("tmp_path"), {}
    for optimiser, schedule in (
        *(("adam", "plateau"), ("adam", "cosine")),
        *(("adamw", "polynomial"), ("sgd", "onecycle")),
    ):
        network, rates, seen, state = make_network(), [], [], folder / schedule
        settings = LoopSettings(6, 1, 2, 0.05, schedule, 0.5, 1, optimiser)

        def compute(_, network=network):
            return (torch.sigmoid(network(image)) - (image > 0.8).float()).square().mean(), {}

        def note(_, numbers, rates=rates, seen=seen):
            rates.append(numbers["lr"])
            seen.append(numbers["loss"])

        progress = train(
            make_trainee(network, settings, CPU),
            Objective(compute, 1, ""),
            settings,
            state_file=state,
            reports=Reports(note, lambda _: 0.5, lambda *_: None, lambda _: None),
        )
        with safe_open(state, framework="pt") as file:
            kept, numbers = sorted(file.keys()), json.loads(file.metadata()["state"])
        # What an unfinished run leaves is read by the code that goes on with it.
        results[schedule] = {
            "losses": seen,
            "rates": rates,
            "best": [progress.best_score, float(progress.best_iteration)],
            "state": [*kept, *sorted(numbers), *sorted(numbers["progress"])],
        }
    return results


def mean_teacher(_):
    from bench.training.augment import StrongView
    from bench.training.mean_teacher import MeanTeacher, make_pseudo_labeller, self_training
    from bench.training.thresholds import ThresholdLabeller, choose_thresholds, find_centres
    from bench.training.unlabelled import UnlabelledFeed, UnlabelledSettings

    settings = UnlabelledSettings(32, 4, StrongView(0.1, 1.0, 0.3), seed=2)
    images = [make_section(seed)[0] for seed in (0, 1)]
    feed = UnlabelledFeed(images, settings, CPU.device, [1.0, 0.7])
    teacher, student = make_network(), make_network()
    thresholds = choose_thresholds(teacher, feed, CPU)
    labellers = {
        "fixed": make_pseudo_labeller(0.6),
        "auto": ThresholdLabeller(thresholds, CPU.device),
    }
    results = {
        "views": [view.numpy() for view in feed.batch(0)],
        "thresholds": [float(v) for t in thresholds for v in (t.lower, t.upper)],
        "centres": [float(centre) for centre in find_centres(teacher, feed, CPU)],
    }
    for name, labeller in labellers.items():
        pair = MeanTeacher(student, teacher, labeller, ema=0.9)
        objective = self_training(pair, feed, CPU)
        loss, numbers = objective.compute(1)
        numbers.pop("data_wait_s")
        results[name] = {"loss": loss.item(), **numbers}
        with torch.no_grad():
            student.out_conv.bias.add_(1)
        objective.after_step()
        results[name]["teacher"] = [part.mean().item() for part in teacher.parameters()]
    return results


def make_sam(request):
    from bench.models.sam import load_sam, write_tiny_sam
    from bench.models.sam_weights import read_torch_file

    path = request.getfixturevalue("tmp_path") / "tiny.pt"
    write_tiny_sam(path, image_px=64, decoder_features=8)
    return load_sam(read_torch_file(path, trust=False))


def network_sam(request):
    network, arguments = make_sam(request)
    image = torch.from_numpy(make_section(0)[0][:64, :64].astype(np.float32))
    with torch.inference_mode():
        prepared = network.sam.preprocess(image[None, None].expand(1, 3, -1, -1))
        embedding = network.sam.image_encoder(prepared)
        decoded = network.unetr(image[None, None].expand(1, 3, -1, -1))
    return {
        "parameters": sum(part.numel() for part in network.parameters()),
        "arguments": sorted(f"{name}={value}" for name, value in arguments.items()),
        "embedding": embedding.numpy(),
        "decoded": decoded.numpy(),
    }


def prompts(request):
    from bench.inference.prompts.masks import prompt_objects
    from bench.inference.prompts.objects import PromptSettings, list_objects
    from bench.inference.sam.embeddings import KeptEncoder

    raw, labels = make_section(0)
    kinds = "box,point,point_box,points"
    settings = PromptSettings.read(kinds, "0,3", points=3, multimask="auto", seed=1)
    objects = list_objects(labels, settings, section=2)
    network, _ = make_sam(request)
    with torch.inference_mode():
        masks = list(
            prompt_objects(
                KeptEncoder(network.eval(), None),
                raw,
                labels,
                settings,
                **{"tile_px": 32, "halo_px": 8, "section": 2},
            )
        )
    return {
        "boxes": np.stack([each.distorted_box(3, labels.shape) for each in objects]),
        "points": np.stack([each.points for each in objects]),
        "rounds": [f"{each.object_id} {each.kind} {each.distortion_px:g}" for each in masks],
        "ious": np.array([each.iou for each in masks]),
    }


def box_prompts(request):
    """Masks of boxes that one window holds, that none does, and of one larger than all."""
    from bench.inference.sam.embeddings import KeptEncoder
    from bench.inference.sam.prompts import Prompts, prompt_section
    from bench.inference.sam.windows import place_windows, windows_around

    raw = make_section(0)[0]
    boxes = np.array([[3.0, 4, 20, 22], [10, 2, 44, 20], [22.5, 30, 38, 44], [1, 1, 70, 40]])
    windows = place_windows(raw.shape, tile_px=20, halo_px=6)
    around = windows_around(boxes, windows, raw.shape)
    network, _ = make_sam(request)
    encoder = KeptEncoder(network.eval(), None)
    masks = prompt_section(encoder, raw, Prompts(boxes), tile_px=20, halo_px=6)
    return {
        "windows": [f"{w.y0} {w.x0} {w.y1} {w.x1}" for w in around],
        "areas": np.array([mask.area for mask in masks]),
        "expected": np.array([mask.score for mask in masks]),
    }


def sam_masks(request):
    from bench.inference.sam.embeddings import KeptEncoder
    from bench.inference.sam.embeddings import embed_window as embed
    from bench.inference.sam.masks import (
        MaskSettings,
        find_by_decoder,
        make_generator,
        segment_section,
    )
    from bench.inference.sam.windows import Mask, join_masks, paint_masks, place_windows

    labels = make_section(0)[1]
    windows = place_windows(labels.shape, tile_px=32, halo_px=8)
    masks = [
        [
            Mask.pack(labels[window.slices] == number, window.y0, window.x0, 0.5 + number / 100)
            for number in np.unique(labels[window.slices])[1:]
        ]
        for window in windows
    ]
    joined = join_masks(windows, masks)
    painted, scores = paint_masks(joined, labels.shape, min_area_px=20, max_area_px=400)
    network, _ = make_sam(request)
    settings = MaskSettings("ais", 2, 0.0, 0.0, 0.7, 0.5, 0.5, 0.5, 1, None)
    generator = make_generator(network.eval(), settings, 48)
    window = np.ascontiguousarray(make_section(0)[0][windows[0].slices])
    with torch.inference_mode():
        embedding = embed(generator._predictor, window)
        _, foreground = find_by_decoder(generator, embedding, windows[0], settings)
        # Every pixel is foreground and near to a centre: an instance in each window, joined.
        anything = MaskSettings("ais", 2, 0.0, 0.0, 0.7, 1.0, 1.0, 0.0, 1, None)
        found, certainty = segment_section(
            KeptEncoder(network, None), make_section(0)[0], anything, tile_px=32, halo_px=8
        )
    return {
        "found": np.bincount(found.ravel()).tolist(),
        "certainty": certainty,
        "windows": [[w.y0, w.x0, w.y1, w.x1] for w in windows],
        "areas": np.bincount(painted.ravel()).tolist(),
        "scores": scores,
        "foreground": foreground,
    }


def sam_training(request):
    from bench.training.sam.interactive import SamTrainingSettings, interactive, prepare_network
    from bench.training.sam.patches import InstancePatchFeed, InstancePatchSettings

    network, _ = make_sam(request)
    prepare_network(network, freeze="image_encoder", lora_rank=0)
    feed = InstancePatchFeed([make_section(0)], InstancePatchSettings(64, 1, True, seed=0))
    objective = interactive(network, feed, SamTrainingSettings(1, 2), CPU)
    return {
        "trained": sum(part.numel() for part in network.parameters() if part.requires_grad),
        "images": feed.batch(0)[0].numpy(),
        "losses": [[float(v) for v in objective.compute(i)[1].values()] for i in range(2)],
    }


def network_unet2d(request):
    from bench.models.checkpoint import load_checkpoint

    network, _ = load_checkpoint(request.getfixturevalue("two_models")[0])
    image = torch.from_numpy(make_field(0)[:64, :64])[None, None].float()
    with torch.inference_mode():
        found = network(image).numpy()
    return {"parameters": sum(part.numel() for part in network.parameters()), "logits": found}


def network_from(architecture, arguments):
    def compute(_):
        from bench.models.checkpoint import build_model

        torch.manual_seed(0)
        network = build_model(architecture, {"out_channels": 1, **arguments})
        image = torch.from_numpy(make_field(0)[:64, :64])[None, None].float()
        with torch.no_grad():
            network.train()(image.repeat(2, 1, 1, 1))
            found = network.eval()(image).numpy()
        return {"parameters": sum(part.numel() for part in network.parameters()), "logits": found}

    return compute


def make_volume_model(architecture: str):
    """A network of volumes whose norms have seen noise, and what it is."""
    from bench.models.checkpoint import ModelInfo, build_model

    arguments = {
        "unet3d": {"depth": 2, "features": 4},
        "unet3d_anisotropic": {"features": 4, "scale_factors": [[1, 2, 2], [2, 2, 2]]},
    }[architecture] | {"in_channels": 1, "out_channels": 1}
    torch.manual_seed(0)
    network = build_model(architecture, arguments)
    with torch.no_grad():
        network.train()(torch.randn(2, 1, 16, 16, 16))
    return network.eval(), ModelInfo(
        *(architecture, arguments, ("foreground",), "vesicles", 2.0, "volume", 16, 8),
        **{"tile_planes": 8, "halo_planes": 4, "input_section_nm": 2.0},
        inference={"smoothing_px": 1.0},
    )


def network_of_volumes(architecture):
    def compute(_):
        network, _ = make_volume_model(architecture)
        image = torch.from_numpy(np.stack([make_field(seed)[:16, :24] for seed in range(8)]))
        with torch.inference_mode():
            found = network(image[None, None].float()).numpy()
        return {"parameters": sum(part.numel() for part in network.parameters()), "logits": found}

    return compute


def volumes(_):
    from bench.inference.volumes import predict_volume

    raw, results = np.stack([make_section(seed)[0] for seed in range(12)]), {}
    for architecture in ("unet3d", "unet3d_anisotropic"):
        for size in (2.0, 2.5):
            found = np.zeros_like(raw)

            def write(start, planes, found=found):
                found[start : start + len(planes)] = planes

            predict_volume(
                *(*make_volume_model(architecture), CPU),
                read_planes=lambda start, stop: raw[start:stop],
                shape=raw.shape,
                voxel_size_nm=(2.0, size, size),
                write_planes=write,
            )
            results[f"{architecture} {size}"] = found
    return results


def tiles(request):
    from bench.inference.prediction import open_predictor

    results = {}
    for name, path in zip("ab", request.getfixturevalue("two_models"), strict=True):
        predict, _ = open_predictor(path, CPU, "vesicles")
        # Only the second is of another pixel size than the section.
        found = predict(make_section(0)[0], 5.0)
        results[name] = [found.foreground, found.boundary]
    return results


def blends(_):
    from bench.inference.blends import Blend, mean_prediction, predict_augmented
    from bench.inference.prediction import predict_one_by_one
    from bench.inference.symmetries import SYMMETRIES

    def see(raw, _):
        return SectionPrediction(np.roll(raw, (3, 1), (0, 1)), np.roll(raw, 5, 0))

    views = predict_augmented(predict_one_by_one(see), make_levels(0), None, tuple(SYMMETRIES))
    views = dict(views)
    members = [[SectionPrediction(make_levels(0, noise))] for noise in (0.3, 0.6, 0.9)]
    names, results = ("a", "b", "c"), {"mean": mean_prediction(views.values()).foreground}
    results |= {f"view {name}": view.foreground for name, view in views.items()}
    for ensemble, weights in (("mean", (2, 1, 1)), ("maximum", ()), ("vote", ())):
        blend = Blend(names, ("identity",), ensemble, weights)
        results[ensemble + str(weights)] = blend.apply(members).foreground
    return results


def post_processing(_):
    from bench.postprocess.segmentation import (
        PostprocessSettings,
        segment_prediction,
        settings_from_annotations,
    )
    from bench.postprocess.watershed import choose_watershed

    truth = make_section(0)[1]
    foreground, boundary = make_levels(0), make_levels(7)
    derived = settings_from_annotations([make_section(seed)[1] for seed in range(3)])
    chosen, rows = choose_watershed(
        [(truth, foreground, boundary)], threshold_level=100, opening_radius_px=1, min_area_px=8
    )
    results = {
        "derived": [derived.opening_radius_px, derived.min_area_px],
        "tried": len(rows),
        "scores": [float(row["instance_f1"]) for row in rows],
    }
    for name, watershed in {"components": None, "watershed": chosen}.items():
        found = segment_prediction(
            SectionPrediction(foreground, boundary),
            level=100,
            settings=PostprocessSettings(1, 8, ""),
            watershed=watershed,
        )
        results[name] = np.bincount(found.labels.ravel()).tolist()
        results[f"{name}, pixels"] = [found.foreground_before_px, found.foreground_after_px]
    return results


def dice(_):
    from bench.metrics.overlap import count_pixels, dice_score

    masks = [make_levels(0) >= 128, make_levels(0, 5.0) >= 128, np.zeros((80, 72), bool)]
    counts = [count_pixels(truth=make_section(0)[1], prediction=mask) for mask in masks]
    counts.append(count_pixels(truth=masks[2], prediction=masks[2]))
    return {"each": [float(dice_score(c)) for c in counts], "pooled": dice_score(sum_of(counts))}


def sum_of(counts):
    """What is pooled over sections."""
    total = counts[0]
    for each in counts[1:]:
        total += each
    return total


def metrics(_):
    from bench.metrics.curves import average_precision
    from bench.recipe.scores import SplitResult

    result = SplitResult()
    for name, noise in (("a", 0.2), ("bb", 0.4), ("empty", 0.0)):
        seed, there = len(name), name != "empty"
        levels = make_levels(seed, noise) * there
        found = label(levels >= 128)[0]
        before, after = (int(np.count_nonzero(mask)) for mask in (levels >= 128, found))
        truth = make_section(seed)[1] * there
        instances = Instances(found.astype(np.int32), before, after)
        result.add(name, truth=truth, probability=levels, instances=instances)
    return {
        **{f"pooled {name}": value for name, value in result.scores().items()},
        **{f"section {name}": value for name, value in result.sections["a"].items()},
        "pooled average_precision": average_precision(result.histogram),
        "empty": result.empty,
    }


def search(_):
    from bench.inference.blends import Blend
    from bench.search.candidates import Candidate, Evidence
    from bench.search.map_search import MapSettings
    from bench.search.search import SearchSettings, search_combinations

    members = {"a": 0.7, "b": 0.9, "c": 1.2}
    evidence = Evidence(
        sections=("s0", "s1"),
        members=dict.fromkeys(members, ("identity", "flip_y")),
        read=lambda member, section, name: SectionPrediction(
            make_levels(int(section[1]) + 10 * len(name), members[member])
        ),
        read_truth=lambda section: make_section(int(section[1]) + 80)[1],
    )
    plain = {name: Candidate(Blend((name,)), 128, 1, 6, {}) for name in members}
    results = {}
    for metric in ("dice", "instance_f1"):
        maps = MapSettings(metric, "subsets", ("mean", "weighted", "maximum", "vote"), 3, 6, 4, 5)
        settings = SearchSettings(maps, 4, (0, 1), (0, 8))
        found = search_combinations(evidence, plain, settings, lambda *_: None)
        results[metric] = {
            "winner": found.winner.scores,
            "single": found.single.scores,
            "described": str(found.winner.blend),
            "cleaned": [found.winner.opening_radius_px, found.winner.min_area_px],
            "gains": [float(part.gain) for part in found.ablation],
            "combinations": found.combinations,
        }
    return results


def phantom(_):
    from bench.phantom.region import make_region
    from bench.phantom.render import DOMAINS

    results = {}
    for domain in DOMAINS:
        region = make_region(shape=(2, 96, 128), pixel_size_nm=5.0, domain=domain, seed=3)
        results[domain] = region.raw
    for name, labels in region.labels.items():
        results[name] = labels > 0
        results[f"number of {name}"] = np.unique(labels).size
    return results


def phantom_tomogram(_):
    from bench.phantom.tomogram.scene import TomogramSettings
    from bench.phantom.tomogram.tomogram import make_tomogram

    settings = TomogramSettings((32, 64, 80), 3.0, (30.0, 40.0), None, 60.0, 0.7)
    tomogram = make_tomogram(settings, 3)
    results = {name: ids > 0 for name, ids in tomogram.labels.items()}
    return results | {"raw": tomogram.raw[16], "centres": tomogram.centres}


def boxes(_):
    """A detector of random weights, what it is trained by, and windows that are joined."""
    from bench.inference.detection.boxes import detect_boxes, join_boxes, keep_best
    from bench.inference.sam.windows import place_windows
    from bench.metrics.detection import Detections, label_boxes
    from bench.models.checkpoint import ModelInfo
    from bench.models.detection.fcos import build_fcos_small
    from bench.training.augment import Augmentation
    from bench.training.box_patches import BoxPatchFeed, detecting
    from bench.training.patches import PatchSettings

    torch.manual_seed(0)
    network = build_fcos_small(features=8)
    settings = PatchSettings(64, 2, 0.75, Augmentation(True, True, 0.0, 0.1), seed=3)
    objective = detecting(network, BoxPatchFeed([make_section(0)], settings), CPU)
    losses = [float(objective.compute(iteration)[0].detach()) for iteration in (0, 1)]
    info = ModelInfo("fcos_small", {}, ("boxes",), "vesicles", None, "section", 48, 16)
    with torch.no_grad():
        network.head.classification_head.cls_logits.bias.zero_()
    found = detect_boxes(network, info, make_section(1)[0], None, CPU)
    windows = place_windows((80, 72), tile_px=24, halo_px=8)
    truth = label_boxes(make_section(0)[1])
    seen = [truth.clip([w.x0, w.y0] * 2, [w.x1, w.y1] * 2) for w in windows]
    seen = [boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)] for boxes in seen]
    joined = join_boxes(
        windows, [Detections(b.astype(np.float32), np.ones(len(b), np.float32)) for b in seen]
    )
    kept = found.take(keep_best(found, 0.3, 0.5))
    return {"losses": losses, "boxes": kept.boxes[:3], "joined": joined.boxes.round(1)}


def pseudo(_):
    """Which objects are sure, of scores that agree with the truth more or less."""
    from bench.inference.detection.prompted import Candidates, PromptedSettings
    from bench.inference.sam.windows import Mask
    from bench.metrics.detection import Detections
    from bench.steps.detection.detector_sam import choose_sure
    from bench.steps.detection.sure_objects import are_sure

    rng = np.random.default_rng(0)
    scores, expected = rng.random((2, 60)).astype(np.float32)
    right = scores + expected + rng.normal(0, 0.2, 60) > 1
    chosen = choose_sure(scores, expected, right, 0.9)
    masks = [Mask.pack(np.ones((3, 1 + n % 9), bool), 0, 0, float(expected[n])) for n in range(60)]
    found = Candidates(Detections(np.zeros((60, 4), np.float32), scores), masks, (9, 9))
    settings = PromptedSettings({}, 0.1, 0.5, 0.0, **chosen, min_area_px=6, max_area_px=20)
    return {"chosen": chosen, "sure": np.flatnonzero(are_sure(found, settings))}


def limit(_):
    """Where foreground begins: of networks that are sure, surer and far too sure."""
    from bench.metrics.curves import histogram_scores
    from bench.steps.training.balance import best_level, limit_of

    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, 20_000)
    truth = rng.random(logits.size) < 1 / (1 + np.exp(-logits))
    levels = [np.round(255 / (1 + np.exp(-k * logits))).astype(np.uint8) for k in (1, 2, 4)]
    pooled = [histogram_scores(truth=truth, probability=found) for found in levels]
    return {"limits": [limit_of(best_level(each)) for each in pooled]}


def pixel_classifier(_):
    """What its trees are given; how they are fitted, scikit-learn says."""
    from bench.models.pixels.filters import context_maps, filter_maps
    from bench.training.pixels.pieces import list_places, make_piece

    raw, labels = make_section(0)
    ((place, _),) = list_places(0, labels > 0)
    nothing = np.zeros(raw.shape, dtype=bool)
    piece = make_piece(raw, labels > 0, nothing, place, filter_maps, CPU.device)
    context = context_maps(piece.maps["grey value"].sigmoid()[None, None])
    drawn = piece.draw(200, np.ones_like(piece.truth), np.random.default_rng(0))
    return {
        "filters": torch.stack([*piece.maps.values()]),
        "context": torch.stack([*context.values()]),
        "names": [*piece.maps, *context],
        "drawn": drawn[:20],
    }


def foundation_features(request):
    """The tokens of a transformer of a file, as maps, and along which axes they are kept."""
    from bench.models.foundation.foundation_features import build_foundation_features
    from bench.models.foundation.layouts import read_encoder

    folder = request.getfixturevalue("tmp_path")
    file = request.getfixturevalue("write_dino")(folder / "dino.pth")
    found = read_encoder(torch.load(file, weights_only=True))
    tokens = build_foundation_features(out_channels=1, encoder=found.arguments).tokens
    tokens.encoder.load_state_dict(found.weights)
    images = [make_field(seed, (80, 96)).astype(np.float32) for seed in (0, 1)]
    images = [torch.from_numpy(each)[None, None] for each in images]
    tokens.fit_axes(images)
    maps = tokens(images[0])
    return {"mean": tokens.mean, "first maps": torch.stack([*maps.values()][:4])}


PARTS: dict[str, Callable] = {
    "boxes": boxes,
    "pseudo": pseudo,
    "feeding": feeding,
    "patches": patches,
    "volume patches": volume_patches,
    "augmentation": augmentation,
    "views": views,
    "losses": losses,
    "classes": classes,
    "limit": limit,
    "spheres": spheres,
    "training loop": training_loop,
    "mean teacher": mean_teacher,
    "network sam": network_sam,
    "sam masks": sam_masks,
    "prompts": prompts,
    "box prompts": box_prompts,
    "sam training": sam_training,
    "network unet2d": network_unet2d,
    "network unet_residual": network_from(
        "unet_residual", {"in_channels": 1, "features": (4, 8), "stride": 4, "detail": 4}
    ),
    "network unet_resnet50": network_from("unet_resnet50", {}),
    "network transunet": network_from("transunet", {"width": 48, "blocks": 2}),
    "network pixel_classifier": pixel_classifier,
    "network foundation_features": foundation_features,
    "network unet3d": network_of_volumes("unet3d"),
    "network unet3d_anisotropic": network_of_volumes("unet3d_anisotropic"),
    "volumes": volumes,
    "tiles": tiles,
    "blends": blends,
    "post-processing": post_processing,
    "dice": dice,
    "metrics": metrics,
    "search": search,
    "phantom": phantom,
    "phantom tomogram": phantom_tomogram,
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_computes_what_its_version_did(part, request, same_as_stored):
    same_as_stored(part, PARTS[part](request))
