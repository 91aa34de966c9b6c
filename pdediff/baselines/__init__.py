"""Classical methods that stand where guidance does."""
