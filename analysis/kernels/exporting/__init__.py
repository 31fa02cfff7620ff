"""From packed bits to rows of events, in tasks: what is handed to other tools. `analysis.export` enters."""
