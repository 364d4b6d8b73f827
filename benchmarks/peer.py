"""BasicSR's EDSR, the peer of BAnet, from a folder of its own.

To be imported whole, BasicSR 1.4.2 needs much that EDSR does not, among it a module that torchvision no longer has.
So the packages around EDSR's file are left empty here.

    pip install 'setuptools<81' wheel cython numpy   # in any environment
    pip install --no-deps --no-build-isolation --target FOLDER basicsr==1.4.2
    GWAINET_BASICSR=FOLDER python -m benchmarks training
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from torch import nn

VARIABLE = "GWAINET_BASICSR"


def missing_basicsr() -> str | None:
    """Why BasicSR cannot be compared with; None where it can."""
    folder = os.environ.get(VARIABLE)
    if folder is None:
        return f"{VARIABLE} does not name a folder with BasicSR (benchmarks/peer.py says how to make one)"
    if not (Path(folder) / "basicsr" / "archs" / "edsr_arch.py").is_file():
        return f"there is no basicsr/archs/edsr_arch.py in {VARIABLE}={folder}"
    return None


def edsr_of_basicsr() -> nn.Module:
    """BasicSR's `EDSR(num_feat=64, num_block=16, upscale=8)`, res_scale and means as SRnet has them.

    Raises:
        ImportError: there is none.
    """
    if missing := missing_basicsr():
        raise ImportError(missing)
    root = Path(os.environ[VARIABLE]) / "basicsr"
    for name in ("basicsr", "basicsr.archs", "basicsr.utils", "basicsr.ops", "basicsr.ops.dcn"):
        package = ModuleType(name)
        # its modules are found, its __init__ does not run
        package.__path__ = [str(root.parent.joinpath(*name.split(".")))]
        sys.modules[name] = package
    # what arch_util takes from those packages, and EDSR does not use
    vars(sys.modules["basicsr.utils"])["get_root_logger"] = None
    vars(sys.modules["basicsr.ops.dcn"]).update(ModulatedDeformConvPack=nn.Module, modulated_deform_conv=None)
    sys.modules["torchvision"] = ModuleType("torchvision")
    vars(sys.modules["torchvision"])["__version__"] = "0"
    edsr = import_module("basicsr.archs.edsr_arch").EDSR
    network: nn.Module = edsr(
        num_in_ch=3, num_out_ch=3, num_feat=64, num_block=16, upscale=8, res_scale=1, img_range=1.0, rgb_mean=(0, 0, 0)
    )
    return network
