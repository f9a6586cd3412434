"""Cards of a class: each model's mean map, its numbers and examples."""
