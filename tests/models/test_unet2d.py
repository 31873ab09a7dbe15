import subprocess
import sys

LATER = """
import sys
from bench.models.unet2d import build_unet2d
network = build_unet2d(in_channels=1, out_channels=1, depth=2, features=4)
around = {"torch_em", "elf", "sklearn", "timm", "torch._dynamo"} & set(sys.modules)
assert not around, around
import torch_em.model
assert type(network) is torch_em.model.UNet2d
"""


def test_it_comes_without_what_torch_em_imports_and_is_torch_em_s(python_environment):
    subprocess.run([sys.executable, "-c", LATER], env=python_environment, check=True)
