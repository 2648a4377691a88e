"""Being told when runs fail, stall or finish: rules, what they find, and whom that is told, once."""
