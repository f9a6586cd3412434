"""Memory stays flat over maps, models loaded and evicted, and comparisons, however many there are.

Hundreds here; `make test-long` asks for 10,000 (`tests/long`).
"""

import json
import os

import pytest
from load import growth, run
from small_store import make_store

TIMES = int(os.environ.get("CVX_REPEATS", "1"))
"""How many times as long as here; `make test-long` asks for 20."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 150 * TIMES)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("leaks") / "store")


LEAKS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from pathlib import Path
from load import memory_mb
torch.set_num_threads(1)
root, times = Path(sys.argv[2]), int(sys.argv[3])

def repeated(num, work):
    counts, series = [], []
    for i in range(num):
        work(i)
        if i % max(1, num // 60) == 0:
            counts.append(i)
            series.append(memory_mb())
    print(json.dumps([counts, series]))

"""
MAPS = """
from cvx.attribution import attribute
from cvx.store import Store
model, card = Store(root).resolve("tiles-resnet10t").load()
few, many = torch.rand(4, 3, 16, 16), torch.rand(33, 3, 16, 16)  # many are worth a folded copy
repeated(500 * times, lambda i: attribute(model, few if i % 10 else many))
"""
MODELS = """
from demo.backend.service import ModelService
service = ModelService(root, model_bytes=1, result_bytes=1)
entries = [entry for entry in service.store.models() if entry.card.dataset == "tiles"]
query = service.catalog().datasets["tiles"].sample(0)
num = 40 if times == 1 else 10 * times
repeated(num, lambda i: service.explain(entries[i % 2], query, "pred", "logit", "gradient"))
"""
COMPARISONS = """
from demo.api import handlers
from demo.backend.lru_cache import LRUCache
from demo.backend.service import ModelService
from demo.components.map_grid import row_export
from demo.state.selection import Choice
row_export._kept = LRUCache(2**18)
service, choice = ModelService(root, result_bytes=2**18), Choice(scale="each")
names = ["tiles-resnet10t", "tiles-vit_tiny"]
targets = ["pred", "red", "green", "blue", "gray"]
repeated(500 * times, lambda i: handlers.compare(service, names, f"tiles:{i % 40}", None, targets[i // 40 % 5], choice))
"""


@pytest.mark.parametrize(
    ("work", "kb"), [(MAPS, 5), (MODELS, 100), (COMPARISONS, 0.5)], ids=["maps", "models", "comparisons"]
)
def test_memory_stays_flat_however_often(store, record_property, work, kb):
    """Allow a few KB each, and 2 MB (20 of models, which are tens of MB themselves) for what the allocator keeps."""
    counts, series = json.loads(run(LEAKS + work, store.root, str(TIMES)))
    spare = 20 if work is MODELS else 2
    allowed = kb + 1000 * spare / (counts[-1] - counts[len(counts) // 3])
    record_property("times", counts[-1] + 1)
    record_property("memory after a third and at the end, MB", f"{series[len(series) // 3]:.1f} {series[-1]:.1f}")
    record_property("growth, KB each", f"{growth(counts, series):.2f}, allowed {allowed:.2f}")
    assert growth(counts, series) <= allowed, series
