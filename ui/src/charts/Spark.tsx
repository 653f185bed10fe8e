// A small picture of calls and errors in a row of the board.
import { exact } from "../format";

const WIDTH = 120;
const HEIGHT = 26;

export function Spark({ points, label }: { points: { calls: number; errors: number }[]; label: string }) {
  const most = Math.max(1, ...points.map((point) => point.calls));
  const bar = WIDTH / Math.max(1, points.length);
  const calls = points.reduce((sum, point) => sum + point.calls, 0);
  const errors = points.reduce((sum, point) => sum + point.errors, 0);
  const height = (value: number) => (value === 0 ? 0 : Math.max(1.5, (value / most) * (HEIGHT - 2)));
  const bars = (read: (point: { calls: number; errors: number }) => number) =>
    points
      .map((point, at) => {
        const size = height(read(point));
        return size === 0 ? "" : `M${(at * bar).toFixed(2)} ${HEIGHT}h${Math.max(0.8, bar - 0.5).toFixed(2)}v${(-size).toFixed(2)}h${(-Math.max(0.8, bar - 0.5)).toFixed(2)}z`;
      })
      .join("");
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`${label}: ${exact(calls)} calls, ${exact(errors)} errors`}>
      <path class="spark-base" d={`M0 ${HEIGHT - 0.5}H${WIDTH}`} />
      <path class="spark-calls" d={bars((point) => point.calls)} />
      <path class="spark-errors" d={bars((point) => point.errors)} />
    </svg>
  );
}
