"""`dnsvip doctor`: what of a node's set-up will not work, and how to mend it. Facts are probed apart from judging."""
