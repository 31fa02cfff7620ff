"""The frames and neurons that a question is about, and their places along its axes; everyone may enter."""
