"""Works that are cited with a model, by its networks."""

from collections.abc import Mapping

from bench.handover.contents import HandoverModel
from bench.words import OurNetworks

# Text and DOI.
_Citation = tuple[str, str]
_U_NET: _Citation = (
    "Ronneberger, Fischer, Brox 2015, U-Net: Convolutional Networks for Biomedical Image "
    "Segmentation",
    "10.1007/978-3-319-24574-4_28",
)
_RESNET: _Citation = (
    "He, Zhang, Ren, Sun 2016, Deep Residual Learning for Image Recognition",
    "10.1109/CVPR.2016.90",
)
_TRANSUNET: _Citation = (
    "Chen et al. 2021, TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation",
    "10.48550/arXiv.2102.04306",
)
# Of every model.
ZOO: _Citation = (
    "Ouyang et al. 2022, BioImage Model Zoo: A Community-Driven Resource for Accessible Deep "
    "Learning in BioImage Analysis",
    "10.1101/2022.06.07.495102",
)
_OF_NETWORKS: Mapping[str, tuple[_Citation, ...]] = {
    OurNetworks.UNET2D: (_U_NET,),
    OurNetworks.UNET_RESIDUAL: (_U_NET, _RESNET),
    OurNetworks.UNET_RESNET50: (_U_NET, _RESNET),
    OurNetworks.TRANSUNET: (_TRANSUNET, _RESNET),
}


def cite_networks(model: HandoverModel) -> list[tuple[str, str]]:
    """The works that describe the networks of a model, each once; those of others have none."""
    found = (work for info in model.infos for work in _OF_NETWORKS.get(info.architecture, ()))
    return list(dict.fromkeys(found))
