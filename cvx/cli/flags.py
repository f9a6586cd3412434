"""What several commands ask in the same words."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnStore:
    """Which store, and what its models compute on."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    artifacts: str = ""
    """The store; default: CVX_ARTIFACTS or artifacts."""
