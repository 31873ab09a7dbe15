"""The public data sets that ``prepare -P input=dataset:NAME`` knows."""

from dataclasses import replace

from bench.dataset.public.editions import (
    CREMI,
    GUAY,
    ISBI2012,
    KASTHURI,
    LUCCHI,
    LUCCHI_PP,
    MITOEM,
    MITOEM_HUMAN,
    MITOEM_RAT,
    PEREZ,
    UROCELL,
    VNC,
)
from bench.dataset.public.rows import PublicDataset

_OURS = "the last fifth of each training series validates, 100 nm from the rest (ours)"
_UNSTATED = "not stated; ask its authors before you pass it on"

_MITOEM = PublicDataset(
    "mitoem",
    "Rat and human cortex, serial-section EM",
    "Wei et al. 2020, MICCAI, doi 10.1007/978-3-030-59722-1_7",
    licence=_UNSTATED,
    commercial=None,
    voxel_nm=(30.0, 8.0, 8.0),
    extent="1000 x 4096 x 4096 voxels of each tissue, 500 of 1000 sections with labels",
    volumes=True,
    split="train and val as published; the test labels are secret",
    editions=(MITOEM,),
    notes=(
        'sections to test on: -P splits="train=0-349;val=354-399;test=400-499" cuts the training '
        "part and tests on the published validation part",
        "tens of gigabytes when unpacked",
    ),
)

DATASETS: dict[str, PublicDataset] = {
    row.name: row
    for row in (
        PublicDataset(
            "cremi",
            "Synaptic clefts in adult Drosophila brain, ssTEM",
            "Funke, Saalfeld, Bock, Turaga, Perlman 2016, CREMI challenge, cremi.org",
            licence=_UNSTATED,
            commercial=None,
            voxel_nm=(40.0, 4.0, 4.0),
            extent="3 volumes of 125 x 1250 x 1250 voxels",
            volumes=True,
            split=f"samples A and B train, C tests; {_OURS}",
            editions=CREMI,
            notes=(
                "the cropped volumes with their clefts; neuron_ids are not taken",
                "2^64 - 1 is background; 2^64 - 2 marks invalid voxels, which count as background",
                "the certificate of its server had expired when others looked",
            ),
        ),
        PublicDataset(
            "guay",
            "Human platelets, serial block-face SEM",
            "Guay et al. 2021, Scientific Reports, doi 10.1038/s41598-021-81590-0",
            licence="public release, terms not stated",
            commercial=None,
            voxel_nm=(40.0, 10.0, 10.0),
            extent="3 volumes",
            volumes=True,
            split="train, eval (val) and test as published",
            editions=GUAY,
            notes=(
                "values: 1 cell (what is none of the others), 2 mitochondria, 3 alpha granules, 4 "
                "canalicular channels, 5 dense granules, 6 their cores; the benchmark file of "
                "cem-dataset and RETINA swaps the names of 3 and 4",
                "0 is not annotated around the cells, and counts as background here",
                "voxel size not verified: torch_em reckons with sections 5 times a pixel apart, "
                "40 nm are 4",
            ),
        ),
        PublicDataset(
            "kasthuri",
            "Kasthuri++: mitochondria in mouse cortex, ssSEM",
            "Casser et al. 2018, arXiv 1812.06024; tissue: Kasthuri et al. 2015, Cell",
            licence=_UNSTATED,
            commercial=None,
            voxel_nm=(30.0, 3.0, 3.0),
            extent="85 training sections, and test sections",
            volumes=False,
            split=f"as published; {_OURS}",
            editions=KASTHURI,
            notes=(
                "255 is mitochondria, 2 padding without tissue, which counts as background",
                "torch_em's loader names the training folders test, and the other way round",
                "voxel size from memory, not verified",
            ),
        ),
        PublicDataset(
            "perez",
            "Four organelles in mouse suprachiasmatic nucleus, serial block-face SEM",
            "Perez et al. 2014, Frontiers in Neuroanatomy, doi 10.3389/fnana.2014.00126",
            licence=_UNSTATED,
            commercial=None,
            voxel_nm=None,
            extent="four sets of images of 1000 x 1000 px",
            volumes=False,
            split="training and test images of each set as published; the last fifth of the "
            "training images validates (ours)",
            editions=PEREZ,
            apart=True,
            notes=(
                "an image is annotated for one organelle and not empty of the others: prepare one, "
                "as in -P structures=mitochondria",
                "pixel size not verified and left out: give -P pixel_size_nm=... if you know it",
                "RETINA's archive of it is read, too, if it is put in place by hand",
            ),
        ),
        PublicDataset(
            "urocell",
            "Mouse urinary bladder, FIB-SEM",
            "Žerovnik Mekuč et al. 2020, doi 10.1016/j.compbiomed.2020.103693, and 2022, doi "
            "10.1016/j.cmpb.2022.106959",
            licence="CC BY-NC-SA 4.0",
            commercial=False,
            voxel_nm=(15.0, 16.0, 16.0),
            extent="5 volumes of 256 x 256 x 256 voxels with these labels",
            volumes=True,
            split=f"1-1-0-3, 3-2-1, 3-3-0 and 4-3-0 train, 0-0-0 tests (cem-dataset); {_OURS}",
            editions=UROCELL,
            notes=(
                "1-1-0-3 is taken from y 54 on and 0-0-0 from y 12 on: above, data lack in places",
                "lysosomes come from lyso/binary; torch_em looks for lyso/instance, which is not "
                "there. Fusiform vesicles and Golgi apparatus lack in some volumes: left out",
                "files state no voxel size, or an impossible one; the page says 16 x 16 x 15 nm",
                "GitHub packs a branch when it is asked for, so that its hash may change",
            ),
        ),
        PublicDataset(
            "lucchi",
            "EPFL: mitochondria in mouse hippocampus, FIB-SEM",
            "Lucchi, Li, Fua 2013, CVPR; EPFL CVLab, epfl.ch/labs/cvlab/data/data-em",
            licence=_UNSTATED,
            commercial=None,
            voxel_nm=(5.0, 5.0, 5.0),
            extent="2 volumes of 165 x 768 x 1024 voxels",
            volumes=True,
            split=f"training and testing as published; {_OURS}",
            editions=LUCCHI,
        ),
        PublicDataset(
            "lucchi_pp",
            "Lucchi++: the same tissue, annotated anew",
            "Casser et al. 2018, arXiv 1812.06024; tissue: EPFL CVLab",
            licence=_UNSTATED,
            commercial=None,
            voxel_nm=(5.0, 5.0, 5.0),
            extent="2 volumes of 165 x 768 x 1024 voxels",
            volumes=True,
            split=f"as published; {_OURS}",
            editions=LUCCHI_PP,
            notes=("torch_em's loader names the training folders test, and the other way round",),
        ),
        PublicDataset(
            "isbi2012",
            "Membranes in the ventral nerve cord of a Drosophila larva, ssTEM",
            "Arganda-Carreras et al. 2015, Frontiers in Neuroanatomy, doi 10.3389/fnana.2015.00142",
            licence=_UNSTATED,
            commercial=None,
            voxel_nm=(50.0, 4.0, 4.0),
            extent="30 sections of 512 x 512 px with labels",
            volumes=False,
            split="the labels of the published test sections are secret: of the 30 others the "
            "first three fifths train, one validates, one tests, a section left out between (ours)",
            editions=ISBI2012,
            notes=(
                "0 is membrane, 255 is not; isbi.h5 is EMBL's copy with the original labels (not "
                "looked at: see that membranes are dark in the pictures of check=true)",
                "the challenge's TIFF files are read, too, if they are put in place by hand",
            ),
        ),
        PublicDataset(
            "vnc",
            "The ventral nerve cord of a Drosophila larva, ssTEM",
            "Gerhard et al. 2013, figshare, doi 10.6084/m9.figshare.856713",
            licence="CC BY-NC-SA 3.0",
            commercial=False,
            voxel_nm=(50.0, 4.6, 4.6),
            extent="20 sections of 1024 x 1024 px with labels, 20 without",
            volumes=False,
            split="the labels of stack 2 are secret, and it is unlabelled here: of stack 1 the "
            "first three fifths train, one validates, one tests, a section left out between (ours)",
            editions=VNC,
            notes=(
                "masks of mitochondria and synapses have smoothed rims, of which 128 to 255 count",
                "GitHub packs a branch when it is asked for, so that its hash may change",
                "sections are 45 to 50 nm apart by its page",
            ),
        ),
        _MITOEM,
        replace(
            _MITOEM,
            name="mitoem_human",
            title="Its human cortex",
            editions=(MITOEM_HUMAN,),
            home="mitoem",
        ),
        replace(
            _MITOEM,
            name="mitoem_rat",
            title="Its rat cortex",
            editions=(MITOEM_RAT,),
            home="mitoem",
        ),
    )
}
