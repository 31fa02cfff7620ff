"""From a question to lazy tasks: axes, plans, graphs. Statistics, layers and recordings enter, users not."""
