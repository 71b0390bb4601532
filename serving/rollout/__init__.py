"""One public name moves from one model to another by weights: the row, the rules, the decision.
The gateways read the weights with the directory; the leading controller takes the steps."""
