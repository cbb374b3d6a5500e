"""`dnsvip doctor`: what will not work in a node's set-up, and how to fix it. Probes are separate from judgement."""
