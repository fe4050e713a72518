"""Many videos on many machines: a ledger of what is done, and Ray to do the rest."""
