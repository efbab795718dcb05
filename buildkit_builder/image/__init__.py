"""An image of layers becomes a graph: what it is made of, the plan of its steps, and what drives their lowering."""
