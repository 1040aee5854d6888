"""The sub-commands of ``depthstyle`` that no other package owns, one module each."""
