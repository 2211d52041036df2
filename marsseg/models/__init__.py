"""Networks and the blocks they are made of."""
