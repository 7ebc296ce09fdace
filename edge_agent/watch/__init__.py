"""``edge-agent watch``: a subscriber for people and for scripts.

    link      the connection: again and again, refused told apart from absent, a session that survives
    news      a message as it came, read without trusting it
    sequence  repeats, and holes in the count
    wanted    which messages are shown, and which one ends the watch
    show      a line for people, or JSON
    hook      a command for each alarm
    arguments what may be asked for
    command   all of these in order

What arrives from the network may have been written by anybody. It ends in a terminal, in a command's environment or in a
JSON line, and in none of these places may it be more than text.
"""

from edge_agent.watch.arguments import add as add
