"""Operations as recorded: which weight layers read which layers, and what their calls did."""
