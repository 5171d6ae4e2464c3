"""How energy is spread over rows and parameters: what independent noise of the same norms is made of."""
