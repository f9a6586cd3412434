import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, top_k_accuracy_score

from cvx.metrics import classification


def example(seed=0, num=200, num_classes=12, scale=3.0):
    random = np.random.default_rng(seed)
    logits = (scale * random.standard_normal((num, num_classes))).astype(np.float32)
    return logits, random.integers(0, num_classes, num)


def probs_of(logits):
    exact = logits.astype(np.longdouble)
    exponent = np.exp(exact - exact.max(axis=1, keepdims=True))
    return (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float64)


@pytest.mark.parametrize("scale", [3.0, 1e4])
def test_probabilities_are_the_softmax_in_the_precision_of_the_logits(scale):
    logits, _ = example(scale=scale)
    for dtype, least in ((np.float32, 1e-6), (np.float64, 1e-14)):
        probs = classification.softmax(logits.astype(dtype))
        assert probs.dtype == dtype
        np.testing.assert_allclose(probs, probs_of(logits), rtol=0, atol=least)
    frames = logits.reshape(10, 20, 12)
    assert np.array_equal(classification.softmax(frames), classification.softmax(logits).reshape(10, 20, 12))
    assert np.array_equal(classification.softmax(logits[0]), classification.softmax(logits)[0])


def test_accuracies_and_loss_are_those_of_scikit_learn():
    logits, labels = example()
    classes = np.arange(12)
    assert classification.acc1(logits, labels) == pytest.approx(accuracy_score(labels, logits.argmax(1)), abs=1e-12)
    assert classification.acc5(logits, labels) == pytest.approx(
        top_k_accuracy_score(labels, logits, k=5, labels=classes), abs=1e-12
    )
    assert classification.nll(logits, labels) == pytest.approx(
        log_loss(labels, probs_of(logits), labels=classes), rel=1e-9
    )


def test_summary_holds_the_four_numbers_as_plain_floats():
    logits, labels = example()
    found = classification.summarize(logits, labels)
    assert list(found) == ["loss", "acc1", "acc5", "ece"]
    assert all(type(value) is float for value in found.values())
    assert found["loss"] == classification.nll(logits, labels)
    assert found["ece"] == classification.ece(logits, labels)
    assert 0 <= found["acc1"] <= found["acc5"] <= 1


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_acc5_is_one_where_there_are_at_most_five_classes(num_classes):
    logits, labels = example(num_classes=num_classes)
    assert classification.acc5(logits, labels) == 1.0


def test_a_constant_model_earns_chance_and_no_more():
    labels = np.arange(20) % 10
    logits = np.zeros((20, 10), dtype=np.float32)
    assert classification.acc1(logits, labels) == 0.1
    assert classification.acc5(logits, labels) == 0.5
    assert classification.nll(logits, labels) == pytest.approx(np.log(10), rel=1e-12)
    assert classification.ece(logits, labels) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.integers(0, 2), min_size=24, max_size=24), st.integers(0, 5))
def test_acc1_agrees_with_argmax_whatever_the_ties(values, label):
    logits = np.array(values, dtype=np.float32).reshape(4, 6)
    labels = np.full(4, label)
    assert classification.acc1(logits, labels) == (logits.argmax(axis=1) == labels).mean()


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_huge_logits_give_exact_loss_and_calibration(scale):
    logits = np.array([[scale, 0, -scale], [0, scale, 0]], dtype=np.float32)
    assert classification.nll(logits, np.array([0, 1])) == 0.0
    assert classification.ece(logits, np.array([0, 1])) == 0.0
    assert classification.nll(logits, np.array([0, 2])) == pytest.approx(np.float32(scale) / 2, rel=1e-12)
    assert classification.ece(logits, np.array([0, 2])) == pytest.approx(0.5)


def test_calibration_error_by_hand():
    # confidences 0.8 (right), 0.8 (wrong), 0.6 (right): bins (0.733, 0.8] and (0.533, 0.6]
    logits = np.log(np.array([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]])).astype(np.float32)
    labels = np.array([0, 1, 1])
    expected = (2 / 3) * abs(0.5 - 0.8) + (1 / 3) * abs(1 - 0.6)
    assert classification.ece(logits, labels) == pytest.approx(expected, abs=1e-6)


def test_calibration_error_by_a_loop_over_the_bins():
    logits, labels = example(num=500, scale=1.0)
    confidence, right = probs_of(logits).max(axis=1), logits.argmax(axis=1) == labels
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert classification.ece(logits, labels) == pytest.approx(expected, rel=1e-9)


def test_confusion_is_that_of_scikit_learn_even_where_classes_are_missing():
    logits, labels = example(num=30)
    labels = np.where(labels == 3, 4, labels)
    expected = confusion_matrix(labels, logits.argmax(1), labels=np.arange(12))
    np.testing.assert_array_equal(classification.confusion(logits, labels), expected)


def test_per_class_accuracy_is_nan_for_a_class_without_images():
    logits = np.eye(4, dtype=np.float32)[[0, 1, 1, 3]]
    found = classification.per_class_accuracy(logits, np.array([0, 0, 1, 3]))
    np.testing.assert_array_equal(found, [0.5, 1.0, np.nan, 1.0])


def test_a_logit_that_is_not_finite_is_named():
    logits = np.zeros((3, 2), dtype=np.float32)
    logits[1] = np.nan
    logits[2, 0] = np.inf
    with pytest.raises(ValueError, match="NaN or infinity for 2 of 3 images"):
        classification.summarize(logits, np.zeros(3, dtype=np.int64))


def test_no_images_is_an_error_and_not_nan():
    with pytest.raises(ValueError, match="no images"):
        classification.summarize(np.zeros((0, 10), dtype=np.float32), np.zeros(0, dtype=np.int64))
