"""The report's one style: light and dark, on screen and on paper."""

STYLE = """
:root{--back:#fbfcfd;--card:#fff;--ink:#1c2733;--quiet:#5b6b7b;--line:#dde4ea;--bar:#2f7f8f;
--good:#1d7a46;--bad:#b3372f;--note:#8a6100;--noteback:#fff7e0}
@media (prefers-color-scheme:dark){:root{--back:#12181e;--card:#1a222b;--ink:#e4ebf1;
--quiet:#9fb0bf;--line:#2d3945;--bar:#5cb3c2;--good:#63c98d;--bad:#f0837b;--note:#f0c766;--noteback:#2c2614}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:1.65rem;margin:0 0 6px;line-height:1.25;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:0 0 10px;overflow-wrap:anywhere}
header p{margin:4px 0;white-space:pre-line;overflow-wrap:anywhere}
.quiet{color:var(--quiet)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;
margin:18px 0}
.tiles{display:flex;flex-wrap:wrap;gap:10px 34px}
.tiles div{display:flex;flex-direction:column}
.tiles b{font-size:1.5rem;font-variant-numeric:tabular-nums}
.tiles span{color:var(--quiet)}
.warnings{background:var(--noteback);border-color:var(--note)}
.warnings h2{color:var(--note)}
ul{margin:0;padding-left:20px;overflow-wrap:anywhere}
.state{font-size:.8rem;font-weight:600;border:1px solid currentColor;border-radius:99px;
padding:1px 9px;vertical-align:middle;color:var(--quiet);white-space:nowrap}
.succeeded,.done{color:var(--good)}
.failed,.cancelled,.timed_out{color:var(--bad)}
.figures{display:flex;flex-wrap:wrap;gap:16px 28px;margin-bottom:14px}
figure{margin:0;max-width:100%}
figcaption{font-weight:600;margin-bottom:4px;max-width:320px;overflow-wrap:anywhere}
svg{max-width:100%;height:auto;display:block}
svg text{font:11px system-ui,sans-serif;fill:var(--quiet)}
svg .end{text-anchor:end}
svg .bar{fill:var(--bar)}
svg .axis{stroke:var(--line)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 14px 5px 0;border-bottom:1px solid var(--line);
vertical-align:top;overflow-wrap:anywhere}
th{color:var(--quiet);font-weight:600;white-space:nowrap}
tbody tr:last-child td{border-bottom:0}
meter{width:70px;height:.8em}
dl{display:grid;grid-template-columns:minmax(120px,max-content) 1fr;gap:4px 22px;margin:0}
dt{color:var(--quiet)}
dd{margin:0;overflow-wrap:anywhere}
code{font:.92em ui-monospace,monospace}
details{margin-top:12px}
details ul{columns:3 200px}
footer{color:var(--quiet);font-size:.9rem;margin-top:24px}
@media print{body{background:#fff}section{break-inside:avoid}details{display:none}}
"""
