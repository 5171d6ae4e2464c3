"""How far figures of a run could have come out otherwise."""
