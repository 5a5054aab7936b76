"""The ways between memories: what data sheets promise, and what is usual.

Peaks are of one direction and carry their source. What is usual is a range to plan with, an
estimate and no data sheet's: give the bandwidth you measured where you have it.
"""

from __future__ import annotations

from dataclasses import dataclass

from prefixsim.errors import InputError
from prefixsim.settings import nearest
from prefixsim.sizes import parse_bytes

__all__ = ["LINKS", "Link", "read_link"]


@dataclass(frozen=True)
class Link:
    """A way by which KV blocks come to a GPU.

    Attributes
    ----------
    name : str
    bandwidth : float
        Bytes/s that are counted with: measured ones as given, else the middle of what is usual.
    peak : float or None
        Bytes/s in one direction, as the source states.
    usual : tuple of float or None
        From and to, bytes/s; an estimate.
    source : str
        Of the peak.
    latency : float
        Seconds before the first byte.
    """

    name: str
    bandwidth: float
    peak: float | None = None
    usual: tuple[float, float] | None = None
    source: str = "given"
    latency: float = 0.0

    @property
    def estimated(self) -> bool:
        """Whether the bandwidth is one to plan with, and not measured."""
        return self.usual is not None


def _link(name: str, peak: float, low: float, high: float, source: str) -> Link:
    return Link(name, (low + high) / 2 * 1e9, peak * 1e9, (low * 1e9, high * 1e9), source)


LINKS: dict[str, Link] = {
    link.name: link
    for link in (
        _link("pcie4", 31.5, 22, 26, "PCI-SIG 4.0, x16: 16 GT/s, 128b/130b"),
        _link("pcie5", 63, 45, 55, "PCI-SIG 5.0, x16; 128 GB/s of H100's sheet are both ways"),
        _link("nvlink-c2c", 450, 300, 400, "NVIDIA Grace Hopper: 900 GB/s are both ways"),
        _link("nvme4", 7, 5, 6.5, "makers' sheets of PCIe 4 x4 drives, sequential read"),
        _link("nvme5", 14, 10, 13, "makers' sheets of PCIe 5 x4 drives, sequential read"),
        _link("rdma100", 12.5, 11, 11.5, "NVIDIA ConnectX-6, line rate"),
        _link("rdma200", 25, 22, 23, "NVIDIA ConnectX-6, line rate"),
        _link("rdma400", 50, 44, 46, "NVIDIA ConnectX-7, line rate"),
        _link("rdma800", 100, 88, 92, "NVIDIA ConnectX-8, line rate"),
        _link("tcp25", 3.1, 1.9, 2.5, "line rate"),
        _link("tcp100", 12.5, 7.5, 10, "line rate"),
    )
}
"""Ways by name. All are shared by the GPUs that hang on them."""


def read_link(text: str) -> Link:
    """Return a way by its name, or one of a measured bandwidth such as ``25GB``.

    Raises
    ------
    InputError
        If the text is neither.

    Examples
    --------
    >>> read_link("pcie5").bandwidth, read_link("25GB").bandwidth
    (50000000000.0, 25000000000.0)
    """
    name = text.strip().lower()
    if name in LINKS:
        return LINKS[name]
    try:
        bandwidth = parse_bytes(name.removesuffix("/s"))
    except InputError:
        close = nearest(name, list(LINKS))
        hint = f" (did you mean {close}?)" if close else ""
        msg = f"link {text!r}{hint}: give bytes per second like 25GB, or one of {', '.join(LINKS)}"
        raise InputError(msg) from None
    return Link(text.strip(), float(bandwidth))
