// The dashboard: which page the address names, and whether one may see it.
import "uplot/dist/uPlot.min.css";
import "./style/theme.css";
import "./style/controls.css";
import "./style/frame.css";
import "./style/figures.css";
import "./style/tables.css";
import "./style/charts.css";
import "./style/pages.css";
import "./style/narrow.css";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Session } from "./api/types";
import { get, locked } from "./api/client";
import { listen } from "./keys";
import { start } from "./live";
import { Link, usePlace } from "./router";
import { useStore } from "./store";
import { pageOf, type Page } from "./url";
import { Header, Help, openHelp } from "./parts/Shell";
import { Failed, Loading } from "./parts/state";
import { BoardPage } from "./pages/Board";
import { CallDetailPage } from "./pages/CallPage";
import { LogPage } from "./pages/Log";
import { DetailPage } from "./pages/Detail";
import { AlertsPage } from "./pages/Alerts";
import { HealthPage } from "./pages/Health";
import { SignInPage } from "./pages/SignIn";

const TITLES: Record<Page["page"], string> = {
  board: "Board",
  call: "Call",
  log: "Log",
  detail: "Call",
  alerts: "Alerts",
  health: "Health",
  unknown: "Not found",
};

function App() {
  const { path } = usePlace();
  const page = pageOf(path);
  const [session, setSession] = useState<Session | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const ask = () => {
    setError(null);
    get<Session>("/session").then(setSession, setError);
  };
  useEffect(ask, []);
  const shut = useStore(locked);
  const outside = session !== null && (shut || (session.required && !session.signed_in));
  const inside = session !== null && !outside;
  useEffect(() => {
    if (inside) start();
  }, [inside]);
  useEffect(() => {
    const name = page.page === "call" ? page.call : page.page === "detail" ? page.id.slice(0, 8) : TITLES[page.page];
    document.title = `${outside ? "Sign in" : name} · Backstay`;
  }, [path, outside]);
  return (
    <>
      <Header session={session} inside={inside} />
      {outside ? (
        <SignInPage entered={setSession} />
      ) : inside ? (
        <Shown page={page} />
      ) : (
        <main id="main" tabIndex={-1}>
          {error !== null ? <Failed error={error} again={ask} /> : <Loading what="the dashboard" />}
        </main>
      )}
      <Help />
    </>
  );
}

function Shown({ page }: { page: Page }) {
  switch (page.page) {
    case "board":
      return <BoardPage />;
    case "call":
      return <CallDetailPage call={page.call} key={page.call} />;
    case "log":
      return <LogPage />;
    case "detail":
      return <DetailPage id={page.id} key={page.id} />;
    case "alerts":
      return <AlertsPage />;
    case "health":
      return <HealthPage />;
    default:
      return (
        <main id="main" tabIndex={-1}>
          <h1>There is no such page</h1>
          <p>
            <Link to="/">Go to the board</Link>
          </p>
        </main>
      );
  }
}

listen(openHelp);
const into = document.getElementById("app");
if (into !== null) render(<App />, into);
