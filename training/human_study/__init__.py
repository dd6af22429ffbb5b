"""The paper's human study (section 6.2): two videos side by side, three questions, votes, and who won."""
