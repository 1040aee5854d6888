"""The published files of weights that depthstyle knows by name."""

from __future__ import annotations

from dataclasses import dataclass

from depthstyle.errors import WeightsError

_MIB = 1 << 20
_TORCHVISION = "code BSD-3-Clause, weights not stated separately"
_MIDAS = "MIT"
_MIDAS_LARGE = "MIT, but made from a backbone under CC-BY-NC 4.0, non-commercial"
_JOHNSON = "free for personal and research use only; commercial use needs the authors' consent"


@dataclass(frozen=True)
class Published:
    """A published file of weights.

    Attributes
    ----------
    name : str
        Its name on the command line.
    network : str or None
        The network that it belongs to, for `depthstyle.networks.build`.
    url : str
        Where it is published.
    size : int or None
        Bytes, where they are known: of some files the published, rounded size or that of the
        numbers alone.
    sha256 : str
        Its SHA-256 in hexadecimal, or the beginning of it that is published; empty where nothing
        is.
    licence : str
        What the publisher says.
    non_commercial : bool
        The licence forbids commercial use.
    md5 : str
        Its MD5 in hexadecimal where that is what is published.
    members : tuple of str
        For an archive, the ends of the paths of the files in it that are kept.
    """

    name: str
    network: str | None
    url: str
    size: int | None
    sha256: str
    licence: str
    non_commercial: bool = False
    md5: str = ""
    members: tuple[str, ...] = ()

    @property
    def filename(self) -> str:
        """The name of the file, or of the folder with the members, in the cache."""
        return self.name if self.members else self.download_name

    @property
    def download_name(self) -> str:
        """The name of what is downloaded."""
        return f"{self.name}-{self.url.rsplit('/', 1)[-1]}"


def _torchvision(name: str, filename: str, mebibytes: float) -> Published:
    prefix = filename.removesuffix(".pth").rsplit("-", 1)[-1]
    url = f"https://download.pytorch.org/models/{filename}"
    return Published(name, name, url, int(mebibytes * _MIB), prefix, _TORCHVISION)


def _adain(name: str, filename: str, size: int) -> Published:
    url = f"https://github.com/naoto0804/pytorch-AdaIN/releases/download/v0.0.0/{filename}"
    return Published(name, None, url, size, "", "code MIT, weights not stated separately")


def _ncnn(style: str, sha256: str) -> Published:
    folder = "https://raw.githubusercontent.com/nihui/ncnn-android-styletransfer/master"
    url = f"{folder}/app/src/main/assets/{style}.bin"
    licence = "BSD-3-Clause in the sources beside it, weights not stated separately"
    return Published(f"fast-{style.replace('_', '-')}", None, url, 3_368_140, sha256, licence)


def _johnson(group: str, style: str) -> Published:
    folder = "http://cs.stanford.edu/people/jcjohns/fast-neural-style/models"
    name = f"johnson-{group.split('_')[0]}-{style.replace('_', '-')}"
    url = f"{folder}/{group}/{style}.t7"
    return Published(name, None, url, None, "", _JOHNSON, non_commercial=True)


def _midas(name: str, network: str, path: str, size: int, licence: str) -> Published:
    prefix = path.removesuffix(".pt").rsplit("-", 1)[-1]
    url = f"https://github.com/isl-org/MiDaS/releases/download/{path}"
    return Published(name, network, url, size, prefix, licence, licence is _MIDAS_LARGE)


def _monodepth2(variant: str, md5: str) -> Published:
    folder = "https://storage.googleapis.com/niantic-lon-static/research/monodepth2"
    return Published(
        f"monodepth2-{variant.replace('_', '-')}",
        "monodepth2",
        f"{folder}/{variant.replace('+', '%2B')}.zip",
        99 * 10**6,
        "",
        "Niantic, non-commercial use only",
        True,
        md5,
        ("encoder.pth", "depth.pth"),
    )


def _megadepth(name: str, filename: str) -> Published:
    url = f"http://www.cs.cornell.edu/projects/megadepth/dataset/models/{filename}"
    return Published(
        name, "hourglass", url, 21_428_612, "", "code MIT, weights not stated separately"
    )


_MONODEPTH2 = {
    "mono_640x192": "a964b8356e08a02d009609d9e3928f7c",
    "stereo_640x192": "3dfb76bcff0786e4ec07ac00f658dd07",
    "mono+stereo_640x192": "c024d69012485ed05d7eaa9617a96b81",
    "mono_no_pt_640x192": "9c2f071e35027c895a4728358ffc913a",
    "stereo_no_pt_640x192": "41ec2de112905f85541ac33a854742d1",
    "mono+stereo_no_pt_640x192": "46c3b824f541d143a45c37df65fbab0a",
    "mono_1024x320": "0ab0766efdfeea89a0d9ea8ba90e1e63",
    "stereo_1024x320": "afc2f2126d70cf3fdf26b550898b501a",
    "mono+stereo_1024x320": "cdc5fc9b23513c07d5b19235d9ef08f7",
}
"""The published variants and the MD5 of each archive; only the size of one is published."""

_MOBILE_PYDNET = (
    "https://raw.githubusercontent.com/FilippoAleotti/mobilePydnet/"
    "0fc3030630cd76ef8f0a64da43818340ee3dfb65"
)

_INSTANCE_NORM = ("candy", "la_muse", "mosaic", "feathers", "the_scream", "udnie")
_ECCV16 = ("the_wave", "starry_night", "la_muse", "composition_vii")

PUBLISHED = {
    file.name: file
    for file in (
        _torchvision("vgg19", "vgg19-dcbb9e9d.pth", 548.1),
        _torchvision("vgg16", "vgg16-397923af.pth", 527.8),
        _torchvision("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", 4.7),
        Published(
            "vgg19-caffe",
            "vgg19-caffe",
            "https://bethgelab.org/media/uploads/pytorch_models/vgg_conv.pth",
            80_097_536,
            "",
            "code MIT, weights not stated separately",
        ),
        _midas("midas-small", "midas-small", "v2_1/model-small-70d6b9c8.pt", 85_578_628, _MIDAS),
        _midas("midas-large", "midas-large", "v2_1/model-f6b98070.pt", 422_263_300, _MIDAS_LARGE),
        _midas("midas-large-v2", "midas-large", "v2/model-f46da743.pt", 422_263_300, _MIDAS_LARGE),
        *(_monodepth2(variant, md5) for variant, md5 in _MONODEPTH2.items()),
        _megadepth("megadepth", "best_generalization_net_G.pth"),
        _megadepth("megadepth-vanilla", "best_vanila_net_G.pth"),
        Published(
            "hourglass",
            "hourglass",
            "https://vl-lab.eecs.umich.edu/data/nips2016/hourglass3.tar.gz",
            None,
            "",
            "code BSD-3-Clause, weights not stated separately",
            members=("AMT_from_205315_1e-4_release/Best_model_period2.t7",),
        ),
        Published(
            "pydnet",
            "pydnet",
            f"{_MOBILE_PYDNET}/Android/app/src/main/assets/optimized_pydnet%2B%2B.tflite",
            2_020_168,
            "ba97991edb4a516096557aedf56e61bf4aa4c30e34d6a38f061ef449ecf16bc7",
            "Apache-2.0",
        ),
        _adain("adain-encoder", "vgg_normalised.pth", 80_102_481),
        _adain("adain-decoder", "decoder.pth", 14_020_876),
        _ncnn("candy", "33cee36c21be4074eb580fdddebe19e02ffe572a2e302106d739796ea601161c"),
        _ncnn("mosaic", "b743d9de15069e384dcc95fd2efde910086933a476442efa745cac4b6c529b33"),
        _ncnn("pointilism", "631e78787b008e268b8f3758d00d79928c4e72134c9062b9a78382e1e407ecae"),
        _ncnn("rain_princess", "63665e8116d4bab2dfc5a9f1d5d6a71c43055ff41349bbff1a4e865652c188df"),
        _ncnn("udnie", "010006b6d1b7ec281cbe57024d22caad9b1dcf27eb6eef080d93495be306e66f"),
        *(_johnson("instance_norm", style) for style in _INSTANCE_NORM),
        *(_johnson("eccv16", style) for style in _ECCV16),
    )
}
"""The files by name."""


def published(name: str) -> Published:
    """Return a published file by its name.

    Raises
    ------
    WeightsError
        The name is unknown.
    """
    if name not in PUBLISHED:
        raise WeightsError(f"weights {name!r}: unknown; choose from {', '.join(PUBLISHED)}")
    return PUBLISHED[name]
