import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from cvx.metrics.embedding import METHODS, align, cka, likeness, project, separability


def make_logits(num=150, num_classes=5, gap=8.0, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, num)
    logits = random.standard_normal((num, num_classes)).astype(np.float32)
    logits[np.arange(num), labels] += np.float32(gap)
    return logits, labels


def digests():
    logits, _ = make_logits()
    return [hashlib.sha256(project(logits, method).tobytes()).hexdigest() for method in METHODS]


def test_pca_is_that_of_scikit_learn_but_for_its_signs():
    logits, _ = make_logits(num_classes=12)
    found, expected = project(logits, "pca"), PCA(2).fit_transform(logits.astype(np.float64))
    assert found.dtype == np.float32
    expected *= np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pca_keeps_its_signs_when_the_points_change_a_little():
    logits, _ = make_logits(num=300)
    for seed in range(5):
        noise = 1e-3 * np.random.default_rng(seed).standard_normal(logits.shape).astype(np.float32)
        np.testing.assert_allclose(project(logits + noise, "pca"), project(logits, "pca"), atol=0.05)


def test_pca_of_two_opposite_logits_is_their_difference():
    half = np.array([3.0, -1.0, 0.5, 2.0, -4.5], dtype=np.float32)
    found = project(np.stack([half, -half], axis=1), "pca")
    np.testing.assert_allclose(found[:, 0], np.sqrt(2) * (half - half.mean()), atol=1e-6)
    np.testing.assert_array_equal(found[:, 1], 0)


@pytest.mark.slow
def test_the_same_logits_give_the_same_layouts_here_and_in_another_process():
    code = "import test_embedding as t; print(*t.digests())"
    here = Path(__file__).parent
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here)
    first = digests()
    assert digests() == first
    assert run.stdout.split() == first


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_a_layout_keeps_apart_what_is_apart_and_together_what_is_together(method):
    logits, labels = make_logits()
    found = separability(logits, project(logits, method), labels)
    assert found["knn"] > 0.97
    assert found["silhouette"] > 0.5
    assert found["trustworthiness"] > 0.9


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_far_groups_keep_the_places_and_sides_that_pca_gives_them(method):
    random = np.random.default_rng(0)
    places = np.array([(40.0 * x, 25.0 * y) for x in (-1, 0, 1) for y in (-1, 0, 1)])
    labels = np.arange(360) % 9
    points = random.standard_normal((360, 5))
    points[:, :2] += places[labels]
    turn = np.linalg.qr(random.standard_normal((5, 5)))[0]
    logits = (points @ turn).astype(np.float32)
    layout, principal = project(logits, method), project(logits, "pca")
    centers = np.stack([layout[labels == label].mean(axis=0) for label in range(9)])
    assert likeness(centers, places) > 0.6, "from a random start it is below 0.3"
    for axis in (0, 1):
        assert np.corrcoef(layout[:, axis], principal[:, axis])[0, 1] > 0.7


def test_nothing_in_tsne_is_left_to_chance():
    logits, _ = make_logits(num=60)
    np.testing.assert_array_equal(project(logits, "tsne", seed=0), project(logits, "tsne", seed=1))


@pytest.mark.slow
def test_another_seed_moves_umap():
    logits, _ = make_logits(num=60)
    assert not np.array_equal(project(logits, "umap", seed=0), project(logits, "umap", seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num", [0, 1, 2, 3, 4, 5, 16])
def test_any_number_of_points_is_laid_out(method, num):
    found = project(make_logits(num=num)[0], method)
    assert found.shape == (num, 2)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_points_that_are_all_the_same_lie_at_zero(method):
    logits = np.tile(np.array([[0.1, -7.3, 1e4]], dtype=np.float32), (30, 1))
    np.testing.assert_array_equal(project(logits, method), 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsne", "umap"])
@pytest.mark.parametrize("kind", ["line", "one class", "copies"])
def test_logits_of_low_rank_still_spread_in_two_dimensions(method, kind):
    half = np.linspace(-3, 3, 40, dtype=np.float32)
    logits = {
        "line": np.stack([half, -half], axis=1),
        "one class": half[:, None],
        "copies": np.repeat(np.eye(4, dtype=np.float32), 10, axis=0),
    }[kind]
    found = project(logits, method)
    assert np.isfinite(found).all()
    assert (found.std(axis=0) > 0).all()


def test_an_unknown_projection_and_broken_logits_are_named():
    logits, _ = make_logits(num=20)
    with pytest.raises(ValueError, match="unknown projection 'mds'; known: pca, tsne, umap"):
        project(logits, "mds")
    logits[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        project(logits, "pca")


@pytest.mark.parametrize("num", [21, 150, 600])
def test_trust_numbers_are_those_of_scikit_learn(num):
    logits, labels = make_logits(num=num, gap=2.0)
    layout = project(logits, "pca")
    found = separability(logits, layout, labels)
    assert found["silhouette"] == pytest.approx(silhouette_score(layout, labels), abs=1e-9)
    assert found["trustworthiness"] == pytest.approx(
        trustworthiness(logits.astype(np.float64), layout, n_neighbors=10), abs=1e-9
    )


def test_neighbor_agreement_is_leave_one_out_accuracy_of_ten_neighbors():
    logits, labels = make_logits(num=80, gap=2.0)
    layout = project(logits, "pca")
    expected = cross_val_score(KNeighborsClassifier(10), layout, labels, cv=LeaveOneOut()).mean()
    assert separability(logits, layout, labels)["knn"] == pytest.approx(expected, abs=1e-12)


def test_a_layout_that_is_the_logits_is_fully_trustworthy():
    logits = np.random.default_rng(0).standard_normal((100, 2)).astype(np.float32)
    assert separability(logits, logits, np.arange(100) % 3)["trustworthiness"] == 1.0


def test_a_random_layout_earns_what_chance_does():
    logits, labels = make_logits(num=1000)
    layout = np.random.default_rng(1).standard_normal((1000, 2)).astype(np.float32)
    found = separability(logits, layout, labels)
    assert abs(found["silhouette"]) < 0.05
    assert found["knn"] == pytest.approx(0.2, abs=0.05)
    assert found["trustworthiness"] == pytest.approx(0.5, abs=0.05)


def test_one_class_has_no_separability_but_a_trustworthy_layout():
    logits, _ = make_logits(num=40)
    found = separability(logits, project(logits, "pca"), np.zeros(40, dtype=np.int64))
    assert np.isnan(found["silhouette"])
    assert np.isnan(found["knn"])
    assert 0 <= found["trustworthiness"] <= 1


def test_a_layout_that_is_one_point_has_no_numbers():
    logits, labels = make_logits(num=40)
    found = separability(logits, np.zeros((40, 2), dtype=np.float32), labels)
    assert all(np.isnan(value) for value in found.values())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 24), st.integers(1, 4), st.integers(0, 99))
def test_few_points_give_a_number_in_range_or_nan(num, num_classes, seed):
    logits, labels = make_logits(num, num_classes, seed=seed)
    found = separability(logits, project(logits, "pca"), labels)
    assert np.isnan(found["knn"]) or (0 <= found["knn"] <= 1 and num >= 11)
    assert np.isnan(found["trustworthiness"]) or (0 <= found["trustworthiness"] <= 1 and num >= 21)
    assert np.isnan(found["silhouette"]) or -1 <= found["silhouette"] <= 1


def gram_cka(a, b):
    """Linear CKA by its definition: HSIC of the centered Gram matrices."""
    center = np.eye(len(a)) - 1 / len(a)
    ka, kb = (center @ (x @ x.T) @ center for x in (a, b))
    return np.trace(ka @ kb) / np.sqrt(np.trace(ka @ ka) * np.trace(kb @ kb))


def test_cka_is_that_of_the_gram_matrices():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((30, 4)), random.standard_normal((30, 6))
    assert cka(a, b) == pytest.approx(gram_cka(a, b))


def test_cka_sees_no_difference_in_a_turned_moved_and_scaled_copy_and_no_likeness_in_noise():
    random = np.random.default_rng(0)
    a = random.standard_normal((2000, 5))
    turn = np.linalg.qr(random.standard_normal((5, 5)))[0]
    assert cka(a, 3 * a @ turn + 7) == pytest.approx(1)
    assert cka(a, random.standard_normal((2000, 5))) < 0.02
    assert np.isnan(cka(a, np.ones((2000, 3))))
    with pytest.raises(ValueError, match="same images"):
        cka(a, a[:5])


def test_a_layout_is_aligned_as_scipy_aligns_it():
    from scipy.spatial import procrustes

    random = np.random.default_rng(0)
    layout, reference = random.standard_normal((40, 2)), random.standard_normal((40, 2)) + 3
    found = align(layout, reference)
    spread = np.linalg.norm(reference - reference.mean(axis=0))
    _, expected, _ = procrustes(reference, layout)  # in units of the reference's spread, around 0
    np.testing.assert_allclose(found, expected * spread + reference.mean(axis=0), atol=1e-5)


def test_the_likeness_of_layouts_is_what_procrustes_analysis_leaves_and_blind_to_turning():
    from scipy.spatial import procrustes

    first, second = np.random.default_rng(0).standard_normal((2, 30, 2)) + 3
    assert likeness(first, second) == pytest.approx(1 - procrustes(first, second)[2])
    assert likeness(first, second) == pytest.approx(likeness(second, first))
    turned = 2.5 * first @ np.array([[0.6, 0.8], [0.8, -0.6]]) - 7
    assert likeness(first, turned) == pytest.approx(1)
    assert np.isnan(likeness(first, np.ones_like(first)))
    with pytest.raises(ValueError, match="30 and 29 points"):
        likeness(first, second[:29])


def test_a_turned_mirrored_layout_lies_on_its_reference_after_alignment():
    random = np.random.default_rng(0)
    reference = random.standard_normal((20, 2))
    turned = 0.2 * reference[:, ::-1] @ np.array([[0.6, 0.8], [-0.8, 0.6]]) - 5
    np.testing.assert_allclose(align(turned, reference), reference, atol=1e-5)
    point = align(np.full((20, 2), 4.0), reference)
    np.testing.assert_allclose(point, np.broadcast_to(reference.mean(axis=0), (20, 2)), atol=1e-6)
