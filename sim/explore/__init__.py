"""``python -m sim explore``: every order of messages, every loss, a crash, on the real engine, within stated bounds."""
