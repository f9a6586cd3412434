"""Serve the demo from a Hugging Face Space, whose root holds the folders cvx and demo beside this file."""

from demo.app import main

main()
