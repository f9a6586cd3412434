"""What stands under the film's pictures on W&B."""

import numpy as np

from cvx.tracking.pictures import film_captions


def test_a_caption_says_right_or_wrong_the_classes_and_how_sure_the_model_is():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.15, 0.6], [0.1, 0.8, 0.1]], dtype=np.float32))
    labels, targets = np.array([0, 1, 2]), np.array([0, 1, 1])
    assert film_captions(labels, targets, logits, ("cat", "dog", "owl")) == [
        "✓ label cat · predicted cat 70% · gradient of the logit of cat",
        "✗ label dog · predicted owl 60% · gradient of the logit of dog",
        "✗ label owl · predicted dog 80% · gradient of the logit of dog",
    ]
