from .database import Refused, State, Study, Vote
from .design import build
from .results import Report, report, write_report
from .server import create_app, serve
from .statistics import BinomialTest, Power, binomial_test, cluster_bootstrap, power

__all__ = [
    "BinomialTest",
    "Power",
    "Refused",
    "Report",
    "State",
    "Study",
    "Vote",
    "binomial_test",
    "build",
    "cluster_bootstrap",
    "create_app",
    "power",
    "report",
    "serve",
    "write_report",
]
