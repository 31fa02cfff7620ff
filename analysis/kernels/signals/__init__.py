"""Values of signals in groups of frames, and around spikes: what runs inside tasks; tasks alone enter."""
