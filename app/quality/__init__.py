"""How far a result can be trusted, in numbers and in sentences."""
