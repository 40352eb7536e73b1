"""Floor 0: bytes <-> frozen values. Pure; knows no network, no store and no clock."""
