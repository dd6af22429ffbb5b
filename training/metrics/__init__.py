"""The paper's measures (section 5): FVD, Inception Score, CLIPSIM, LPIPS, and what flickers and moves."""
