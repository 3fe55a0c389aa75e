"""What the bouncer costs, printed as ratios within one run: absolute numbers are the machine's."""
